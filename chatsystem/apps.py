from __future__ import annotations

from django.apps import AppConfig


class ChatsystemConfig(AppConfig):
    name = "chatsystem"

    def ready(self) -> None:
        import chatsystem.celery  # noqa: F401  (makes its application the one of all shared tasks)
        from chatsystem import checks, database_checks  # noqa: F401  (registers them)
        from chatsystem.logs import queries, tasks  # noqa: F401  (connects them to their signals)
