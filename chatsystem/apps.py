from __future__ import annotations

from django.apps import AppConfig


class ChatsystemConfig(AppConfig):
    name = "chatsystem"

    def ready(self) -> None:
        import chatsystem.celery  # noqa: F401  (makes its application the default of all shared tasks)
        from chatsystem.conf import checks, database_checks, galera  # noqa: F401  (registers checks, connects receivers)
        from chatsystem.logs import slow_queries, tasks  # noqa: F401  (connects receivers of signals)
        from chatsystem.monitoring import hosts  # noqa: F401  (connects receivers of signals)
