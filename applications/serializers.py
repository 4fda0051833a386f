from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment, Text


class ApplicationSerializer(serializers.Serializer):
    token = serializers.CharField(read_only=True)
    name = Text(max_length=255)
    chats_count = serializers.IntegerField(read_only=True)
    created_at = Moment()
    last_request_time = Moment()
