from __future__ import annotations

from rest_framework import serializers

from chats.models import Chat
from chatsystem.api.fields import Text


class ChatSerializer(serializers.ModelSerializer):
    title = Text(max_length=255)

    class Meta:
        model = Chat
        fields = ["number", "title", "messages_count", "created_at", "last_request_time"]
        read_only_fields = ["number", "messages_count", "created_at", "last_request_time"]
