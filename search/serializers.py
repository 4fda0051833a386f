from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment


class HitSerializer(serializers.Serializer):
    """A message that was found, and where it belongs."""

    application_token = serializers.CharField()
    chat_number = serializers.IntegerField()
    number = serializers.IntegerField()
    body = serializers.CharField()
    highlight = serializers.CharField()
    created_at = Moment()
    last_request_time = Moment()
