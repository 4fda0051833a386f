"""What the write log keeps in the database. Documented in docs/write-log.md."""

from __future__ import annotations

from django.db import models

from chatsystem.writelog.keys import PARTITIONS


class Partition(models.Model):
    """One of the log's partitions; whoever holds its row lock drains it.

    `drained_through` moves in the transaction that stores the events, so an event is stored exactly once: at or below
    this arrival it has been, above it has not.
    """

    id = models.PositiveSmallIntegerField(primary_key=True)
    drained_through = models.BigIntegerField(default=0, help_text="Arrival, in microseconds, of the last event stored.")

    def __str__(self) -> str:
        return f"partition {self.pk} of {PARTITIONS}"


class AcknowledgedEvent(models.Model):
    """An event that was acknowledged and is not stored."""

    partition = models.ForeignKey(Partition, on_delete=models.PROTECT)
    arrival = models.BigIntegerField(help_text="Microseconds since 1970, unique within the partition.")
    verb = models.CharField(max_length=6)
    path = models.CharField(max_length=80)
    text = models.TextField()
    error = models.TextField()

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.verb} {self.path}"


class DeadEvent(AcknowledgedEvent):
    """One that the database refused. It is kept until someone replays or discards it."""

    died_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["partition", "arrival"], name="dead_event_once")]


class DiscardedEvent(AcknowledgedEvent):
    """The record of a dead event that somebody gave up: what it was, who did it, when and why. Nothing removes it."""

    died_at = models.DateTimeField()
    discarded_at = models.DateTimeField(auto_now_add=True)
    discarded_by = models.CharField(max_length=150, help_text="Name of the user.")
    reason = models.TextField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["partition", "arrival"], name="discarded_event_once")]
