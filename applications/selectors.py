"""Reading applications, as acknowledged. Documented in docs/write-log.md."""

from __future__ import annotations

from rest_framework.exceptions import NotFound

from applications.models import Application
from chatsystem.writelog import log
from chatsystem.writelog.reads import overlay


def get_application(token: str) -> Application:
    """The application; unsaved when it is acknowledged and not yet stored. Raises NotFound."""
    pending = log.pending(token, token)
    row = Application.objects.filter(token=token).first()
    application = overlay(row, pending, "name", lambda created: Application(token=token, created_at=created))
    if application is None:
        raise NotFound
    return application


def last_chat_number(token: str) -> int | None:
    """The highest stored number of the application's chats; None when the application is not stored."""
    application = Application.objects.filter(token=token).first()
    if application is None:
        return None
    newest = application.chats.order_by("-number").values_list("number", flat=True).first()
    return newest or 0
