"""Copying everything from one database to another, and proving it. Documented in docs/operations.md.

What arrives is what was there: primary keys, tokens, numbers, times to the microsecond. `Partition.drained_through` is
among it, so the write log may still hold events: those above the mark are not in the rows that were copied, and are
drained into the new database; those at or below it are, and are skipped there too. All this holds as long as nobody
drains into the old database meanwhile or later, which `stopped` sees to.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.apps import apps
from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connections, transaction
from django.db.migrations.executor import MigrationExecutor
from django.db.models import Model, QuerySet

from chatsystem import database
from chatsystem.embedded import locks
from chatsystem.writelog import vitals
from chatsystem.writelog.models import Partition
from chatsystem.writelog.state import LogUnavailable

SOURCE = "default"
TARGET = "target"

#: Rows that are read, written and compared at once.
CHUNK = 1_000

#: What a migration fills by itself. In an empty database it is there, with primary keys of its own.
MADE_BY_MIGRATE: list[type[Model]] = [ContentType, Permission, Partition]

Progress = Callable[[int], object]


class CannotCopy(Exception):
    """Its message is the sentence that the user reads."""


def open_target(url: str) -> None:
    """Makes the database known to Django, under the alias TARGET."""
    configured = connections.configure_settings({SOURCE: connections.settings[SOURCE], TARGET: database.parse(url)})
    connections.settings[TARGET] = configured[TARGET]


@contextmanager
def stopped() -> Iterator[None]:
    """Holds the source in one state, with nobody at work on it. Raises CannotCopy when somebody is."""
    with _runner_kept_away():
        try:
            vitals.expect_workers()
        except (LogUnavailable, vitals.WorkersSilent):
            pass  # Without Redis nobody drains; without a sign of life for 15 s there is no worker.
        else:
            raise CannotCopy("Workers are at work on this database. Stop them, and run this again 15 seconds later.")
        # Against whoever drains by hand, or to seed: nothing is stored before the copy is complete.
        with transaction.atomic(SOURCE):
            list(Partition.objects.using(SOURCE).select_for_update())
            yield


@contextmanager
def _runner_kept_away() -> Iterator[None]:
    """Holds what `make run` holds: it is not running, and does not start meanwhile."""
    run = settings.DATA_DIR.run
    if not run.is_dir():
        yield  # It has never run here.
        return
    descriptor = locks.take(run / "lock")
    if descriptor is None:
        raise CannotCopy(f"The product is running on DATA_DIR {settings.DATA_DIR.root}. Stop it, and run this again.")
    try:
        yield
    finally:
        os.close(descriptor)


def expect_migrated() -> None:
    executor = MigrationExecutor(connections[SOURCE])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CannotCopy("The present database is of an older version. Run `manage.py migrate` first.")


def expect_empty() -> None:
    """Raises CannotCopy when the target, which is migrated, holds anything that a migration has not made."""
    for model in models():
        rows = _rows(model, TARGET)
        if model is Partition:
            rows = rows.filter(drained_through__gt=0)
        elif model in MADE_BY_MIGRATE:
            continue
        if rows.exists():
            raise CannotCopy(
                f"The target is not empty: there are rows in {model._meta.db_table}. Name an empty database, "
                "or go on with a copy that was interrupted: --resume."
            )


def clear_what_migrate_made() -> None:
    """So that it can be copied like all the rest."""
    target = connections[TARGET]
    with target.constraint_checks_disabled(), target.cursor() as cursor:
        for model in MADE_BY_MIGRATE:
            # Not delete(), which would take along what refers to them.
            cursor.execute(f"DELETE FROM {target.ops.quote_name(model._meta.db_table)}")


def models() -> list[type[Model]]:
    """All that have a table, those between two others included."""
    return [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]


def total() -> int:
    return sum(_rows(model, SOURCE).count() for model in models())


def copy(model: type[Model], progress: Progress) -> None:
    """Copies the rows beyond the last one that is there already: all of them into an empty table."""
    target = connections[TARGET]
    fields = model._meta.concrete_fields
    quote = target.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    # Not bulk_create, which would set the times of now where a field says so.
    insert = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({', '.join(['%s'] * len(fields))})"
    there = _rows(model, TARGET).order_by("pk").values_list("pk", flat=True).last()
    if there is not None:
        progress(_rows(model, TARGET).count())
    for rows in _chunks(model, there):
        values = [
            [field.get_db_prep_save(value, target) for field, value in zip(fields, row, strict=True)] for row in rows
        ]
        # The order of tables is no order of references; `check_constraints` looks at them in the end.
        with target.constraint_checks_disabled(), transaction.atomic(TARGET), target.cursor() as cursor:
            cursor.executemany(insert, values)
        progress(len(rows))


def compare(model: type[Model], progress: Progress) -> None:
    """Reads both sides, row by row. Raises CannotCopy at the first difference."""
    names = _names(model)
    last: Any = None
    for rows in _chunks(model, None):
        key = names.index(model._meta.pk.attname)
        copied = _beyond(_rows(model, TARGET), last).filter(pk__lte=rows[-1][key]).order_by("pk").values_list(*names)
        if list(copied) != rows:
            raise CannotCopy(
                f"{model._meta.db_table} differs between the databases, in primary keys up to {rows[-1][key]}. "
                "Something has written to one of them: begin again with an empty target."
            )
        last = rows[-1][key]
        progress(len(rows))
    if _beyond(_rows(model, TARGET), last).exists():
        raise CannotCopy(f"{model._meta.db_table} has rows in the target that are not in the present database.")


def _chunks(model: type[Model], last: Any) -> Iterator[list[tuple]]:
    """The source's rows with a primary key beyond `last`, in its order."""
    names = _names(model)
    key = names.index(model._meta.pk.attname)
    while rows := list(_beyond(_rows(model, SOURCE), last).order_by("pk").values_list(*names)[:CHUNK]):
        yield rows
        last = rows[-1][key]


def _beyond(rows: QuerySet, last: Any) -> QuerySet:
    return rows if last is None else rows.filter(pk__gt=last)


def _rows(model: type[Model], alias: str) -> QuerySet:
    return model._base_manager.using(alias)


def _names(model: type[Model]) -> list[str]:
    return [field.attname for field in model._meta.concrete_fields]
