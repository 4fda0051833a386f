"""Reads applications as acknowledged, drained or not. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Sequence

from django.db.models import Q

from applications.models import Application
from chatsystem.writelog import reads, stream
from chatsystem.writelog.events import to_datetime, to_micros
from chatsystem.writelog.exceptions import UnknownEntity
from chatsystem.writelog.reads import overlay

#: An application's position in the list of all: `created_at` in microseconds, and its id.
Position = Sequence[int]


def get_application(token: str) -> Application:
    """Returns the application. It is unsaved when it is acknowledged but not stored yet. Raises UnknownEntity."""
    pending = reads.pending(token, token)
    row = Application.objects.filter(token=token).first()
    application = overlay(row, pending, "name", lambda created: Application(token=token, created_at=created))
    if application is None:
        raise UnknownEntity(token)
    return application


def list_applications(limit: int, after: Position | None, before: Position | None) -> tuple[list[Application], bool]:
    """Returns a page of the stored applications, oldest first, and whether more lie beyond it.

    The page starts after one position or ends before another one; without either it is the first page. The list ends at
    the log's horizon, because an older row could still be stored before a row that is newer than the horizon.
    """
    rows = Application.objects.filter(created_at__lt=to_datetime(stream.horizon()))
    order = ["created_at", "pk"]
    if after is not None:
        moment = to_datetime(after[0])
        rows = rows.filter(Q(created_at__gt=moment) | Q(created_at=moment, pk__gt=after[1]))
    elif before is not None:
        moment = to_datetime(before[0])
        rows = rows.filter(Q(created_at__lt=moment) | Q(created_at=moment, pk__lt=before[1]))
        order = ["-created_at", "-pk"]
    # One row more than asked for tells whether a page follows.
    found = list(rows.order_by(*order)[: limit + 1])
    page = found[:limit]
    return (page if before is None else page[::-1]), len(found) > limit


def position_of(application: Application) -> Position:
    return [to_micros(application.created_at), application.pk]


def last_chat_number(token: str) -> int | None:
    """Returns the highest stored number of the application's chats, or None when the application is not stored."""
    application = Application.objects.filter(token=token).first()
    if application is None:
        return None
    newest = application.chats.order_by("-number").values_list("number", flat=True).first()
    return newest or 0
