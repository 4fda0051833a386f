from __future__ import annotations

from rest_framework import serializers

from applications.models import Application
from chatsystem.api.fields import Text


class ApplicationSerializer(serializers.ModelSerializer):
    name = Text(max_length=255)

    class Meta:
        model = Application
        fields = ["token", "name", "chats_count", "created_at", "last_request_time"]
        read_only_fields = ["token", "chats_count", "created_at", "last_request_time"]
