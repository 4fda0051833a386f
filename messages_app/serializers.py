from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment, Text

#: Messages that one batch may bring.
MAX_BATCH = 1000


class MessageSerializer(serializers.Serializer):
    number = serializers.IntegerField(read_only=True)
    body = Text(max_length=16_000)
    created_at = Moment()
    last_request_time = Moment()
