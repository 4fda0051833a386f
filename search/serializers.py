from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment
from chatsystem.api.routing import Token


class HitSerializer(serializers.Serializer):
    """A message that matches, with its application and chat."""

    application_token = serializers.RegexField(f"^{Token.regex}$")
    chat_number = serializers.IntegerField(min_value=1)
    number = serializers.IntegerField(min_value=1)
    body = serializers.CharField()
    highlight = serializers.CharField(help_text="The body as HTML, with each match in `<em>`.")
    created_at = Moment()
    last_request_time = Moment()
