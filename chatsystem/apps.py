from __future__ import annotations

from django.apps import AppConfig


class ChatsystemConfig(AppConfig):
    name = "chatsystem"

    def ready(self) -> None:
        from chatsystem import celery, checks, database_checks  # noqa: F401  (registers them)
        from chatsystem.logs import queries, tasks  # noqa: F401  (connects them to their signals)
