from __future__ import annotations

from rest_framework import serializers


class HitSerializer(serializers.Serializer):
    """A message that was found, and where it belongs."""

    application_token = serializers.CharField()
    chat_number = serializers.IntegerField()
    number = serializers.IntegerField()
    body = serializers.CharField()
    highlight = serializers.CharField()
    created_at = serializers.DateTimeField()
    last_request_time = serializers.DateTimeField()
