from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment, Text


class ChatSerializer(serializers.Serializer):
    number = serializers.IntegerField(read_only=True)
    title = Text(max_length=255)
    messages_count = serializers.IntegerField(read_only=True)
    created_at = Moment()
    last_request_time = Moment()
