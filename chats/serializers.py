from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment, Text


class ChatSerializer(serializers.Serializer):
    number = serializers.IntegerField(read_only=True, min_value=1, help_text="In its application: 1, 2, 3 …")
    title = Text(max_length=255)
    messages_count = serializers.IntegerField(read_only=True, min_value=0, help_text="Updated within about a second.")
    created_at = Moment(help_text="When the create arrived.")
    last_request_time = Moment(help_text="When the last request that changed it arrived.")
