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
    """The rows that drains lock are there before anyone drains, after a migration as after a flush."""
    from chatsystem.writelog.keys import PARTITIONS
    from chatsystem.writelog.models import Partition

    Partition.objects.using(using).bulk_create([Partition(id=p) for p in range(PARTITIONS)], ignore_conflicts=True)
