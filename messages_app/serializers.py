from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Text

#: Messages that one batch may bring.
MAX_BATCH = 1000


class MessageSerializer(serializers.Serializer):
    number = serializers.IntegerField(read_only=True)
    body = Text(max_length=16_000)
    created_at = serializers.DateTimeField(read_only=True)
    last_request_time = serializers.DateTimeField(read_only=True)
