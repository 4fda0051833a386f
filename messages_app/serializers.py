from __future__ import annotations

from rest_framework import serializers

from chatsystem.api.fields import Moment, Text

#: The most messages in one batch.
MAX_BATCH = 1000


class MessageSerializer(serializers.Serializer):
    number = serializers.IntegerField(read_only=True, min_value=1, help_text="In its chat: 1, 2, 3 …")
    body = Text(max_length=16_000)
    created_at = Moment(help_text="When the create arrived.")
    last_request_time = Moment(help_text="When the last request that changed it arrived.")
