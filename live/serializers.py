from __future__ import annotations

from typing import Any

from rest_framework import serializers

from chatsystem.api.fields import Moment
from chatsystem.writelog.reads import MAX_NUMBER

#: The most chats of one ticket.
MAX_CHATS = 100
#: Seconds for which a ticket may be valid.
MIN_TTL, MAX_TTL, DEFAULT_TTL = 10, 86_400, 3_600


class WholeNumber(serializers.IntegerField):
    """A JSON number without a fraction. A string or a boolean is rejected."""

    def to_internal_value(self, data: Any) -> int:
        if type(data) is not int:
            self.fail("invalid")
        return data


class TicketSerializer(serializers.Serializer):
    chats = serializers.ListField(
        child=WholeNumber(min_value=1, max_value=MAX_NUMBER),
        min_length=1,
        max_length=MAX_CHATS,
        required=False,
        write_only=True,
        help_text="Numbers of existing chats. Without it, the ticket is for the whole application.",
    )
    ttl = WholeNumber(
        min_value=MIN_TTL,
        max_value=MAX_TTL,
        default=DEFAULT_TTL,
        write_only=True,
        help_text="Seconds until the ticket expires.",
    )
    ticket = serializers.CharField(read_only=True, help_text="Send it as `?ticket=` to `GET /events`.")
    expires_at = Moment(help_text="Then the ticket is refused, and its streams end.")
