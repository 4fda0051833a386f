from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment, Text
from chatsystem.api.routing import Token


class ApplicationSerializer(serializers.Serializer):
    token = serializers.RegexField(f"^{Token.regex}$", read_only=True, help_text="Grants access to the application.")
    name = Text(max_length=255)
    chats_count = serializers.IntegerField(read_only=True, min_value=0, help_text="Updated within about a second.")
    created_at = Moment(help_text="When the create arrived.")
    last_request_time = Moment(help_text="When the last request that changed it arrived.")
