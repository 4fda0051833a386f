from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Text
from messages_app.models import Message

#: Messages that one batch may bring.
MAX_BATCH = 1000


class MessageSerializer(serializers.ModelSerializer):
    body = Text(max_length=16_000)

    class Meta:
        model = Message
        fields = ["number", "body", "created_at", "last_request_time"]
        read_only_fields = ["number", "created_at", "last_request_time"]
