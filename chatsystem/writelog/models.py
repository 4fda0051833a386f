"""The write log's tables. Documented in docs/write-log.md."""

from __future__ import annotations

from django.db import models

from chatsystem.writelog.keys import PARTITIONS

#: Length of a run_id and a replid.
INCARNATION = 80


class Owner(models.Model):
    """A state Redis that owns partitions, or has owned some (ownership.py)."""

    redis = models.CharField(max_length=INCARNATION, primary_key=True, help_text="Its run_id and replid.")
    confirmations = models.BigIntegerField(default=0, help_text="How often it has shown that it is there.")

    def __str__(self) -> str:
        return self.redis


class Partition(models.Model):
    """One partition of the log. Only the holder of its row lock drains it.

    `drained_through` moves in the transaction that stores the events, so that each is stored exactly once: events up to
    this arrival are stored, later ones are not.
    """

    id = models.PositiveSmallIntegerField(primary_key=True)
    drained_through = models.BigIntegerField(default=0, help_text="Arrival, in microseconds, of the last event stored.")
    owner = models.CharField(
        max_length=INCARNATION,
        default="",
        help_text="The Redis whose log is stored here: its run_id and replid. Empty: nobody yet.",
    )
    previous = models.CharField(
        max_length=INCARNATION,
        default="",
        db_default="",
        help_text="The Redis whose state the owner must have, or begin a new epoch.",
    )
    layout = models.CharField(
        max_length=20,
        default="",
        help_text="What REDIS_URL said when a Redis last became the owner (servers.py).",
    )
    term = models.BigIntegerField(
        default=0, db_default=0, help_text="How often a Redis was let pass the fence (terms.py)."
    )

    def __str__(self) -> str:
        return f"partition {self.pk} of {PARTITIONS}"


class FormerTerm(models.Model):
    """A term of a partition that is over, and up to which arrival its events count (terms.py). Nothing removes it."""

    partition = models.ForeignKey(Partition, on_delete=models.PROTECT)
    term = models.BigIntegerField()
    through = models.BigIntegerField(help_text="Arrival, in microseconds. Later events of this term were lost.")
    ended_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["partition", "term"], name="former_term_once")]

    def __str__(self) -> str:
        return f"term {self.term} of {self.partition}"


class FeedRow(models.Model):
    """What one drain stored of one partition: the entities that the events after `after` up to `through` changed.

    The rows of a partition form a chain: each begins where the one before ended (feed.py).
    """

    #: The constraint's index serves it.
    partition = models.ForeignKey(Partition, on_delete=models.PROTECT, db_index=False)
    after = models.BigIntegerField(help_text="Arrival, in microseconds.")
    through = models.BigIntegerField(help_text="Arrival, in microseconds.")
    changes = models.TextField(help_text="Path of a parent → numbers of its changed children, as JSON.")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["partition", "through"], name="feed_row_once")]

    def __str__(self) -> str:
        return f"{self.partition}, {self.after} to {self.through}"


class AcknowledgedEvent(models.Model):
    """An event that was acknowledged and cannot be stored."""

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
    """A dead letter: an event that the database refused. It is kept until someone replays or discards it."""

    died_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["partition", "arrival"], name="dead_event_once")]


class DiscardedEvent(AcknowledgedEvent):
    """The record of a discarded dead letter: what it was, and who discarded it, when and why. Nothing removes it."""

    died_at = models.DateTimeField()
    discarded_at = models.DateTimeField(auto_now_add=True)
    discarded_by = models.CharField(max_length=150, help_text="Name of the user.")
    reason = models.TextField()
    withdrawn = models.BigIntegerField(
        default=0, db_default=0, help_text="The partition's clock afterwards, in microseconds."
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["partition", "arrival"], name="discarded_event_once")]
