from __future__ import annotations

import secrets
from functools import cache

import redis
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils import timezone
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from applications.models import Application
from bench.reference.tasks import store_message
from chats.models import Chat
from messages_app.models import Message


@cache
def numbers() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL)


class ApplicationSerializer(serializers.ModelSerializer):
    class Meta:
        model = Application
        fields = ["token", "name", "chats_count", "created_at", "last_request_time"]
        read_only_fields = ["token", "chats_count", "created_at", "last_request_time"]


class ChatSerializer(serializers.ModelSerializer):
    class Meta:
        model = Chat
        fields = ["number", "title", "messages_count", "created_at", "last_request_time"]
        read_only_fields = ["number", "messages_count", "created_at", "last_request_time"]


class MessageSerializer(serializers.ModelSerializer):
    class Meta:
        model = Message
        fields = ["number", "body", "created_at", "last_request_time"]
        read_only_fields = ["number", "created_at", "last_request_time"]


class Applications(APIView):
    def post(self, request: Request) -> Response:
        serializer = ApplicationSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        now = timezone.now()
        serializer.save(token=secrets.token_hex(16), created_at=now, last_request_time=now)
        return Response(serializer.data, status=201)


class Chats(APIView):
    def post(self, request: Request, token: str) -> Response:
        application = get_object_or_404(Application, token=token)
        serializer = ChatSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        now = timezone.now()
        number = numbers().incr(f"chats:{application.pk}")
        serializer.save(application=application, number=number, created_at=now, last_request_time=now)
        return Response(serializer.data, status=201)


class Messages(APIView):
    def post(self, request: Request, token: str, chat_number: int) -> Response:
        chat = get_object_or_404(Chat, application__token=token, number=chat_number)
        serializer = MessageSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        now = timezone.now()
        body = serializer.validated_data["body"]
        number = numbers().incr(f"messages:{chat.pk}")
        store_message.delay(chat.pk, number, body, now.isoformat())
        message = Message(chat=chat, number=number, body=body, created_at=now, last_request_time=now)
        return Response(MessageSerializer(message).data, status=201)


def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse()
