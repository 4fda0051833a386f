from __future__ import annotations

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class WriteLogConfig(AppConfig):
    name = "chatsystem.writelog"
    label = "writelog"
    verbose_name = "Write log"

    def ready(self) -> None:
        from chatsystem.writelog import checks  # noqa: F401  (registers them)

        post_migrate.connect(add_partitions, sender=self)


def add_partitions(using: str, **kwargs: object) -> None:
    """Creates the rows that drains lock, after a migration and after a flush."""
    from chatsystem.writelog.keys import PARTITIONS
    from chatsystem.writelog.models import Partition

    Partition.objects.using(using).bulk_create([Partition(id=p) for p in range(PARTITIONS)], ignore_conflicts=True)
