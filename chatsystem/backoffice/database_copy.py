"""Copies everything from one database to another, and compares both. Documented in docs/databases.md.

The copy keeps primary keys, tokens, numbers, and times to the microsecond. It includes `Partition.drained_through`, so
the write log may still hold events. Events above that mark are not in the copied rows, and are drained into the new
database. Events up to the mark are, and are skipped there too. This requires that nobody drains into the old database
during the copy or after it, which `stopped` ensures. docs/decisions.md says why dumpdata does not do.
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

from chatsystem import file_lock
from chatsystem.conf import database
from chatsystem.writelog import stats
from chatsystem.writelog.exceptions import LogUnavailable
from chatsystem.writelog.models import Partition

SOURCE = "default"
TARGET = "target"

#: Rows that are read, written or compared at a time.
CHUNK = 1_000

#: Tables that migrations fill. In an empty database they hold rows with primary keys of their own.
MADE_BY_MIGRATE: list[type[Model]] = [ContentType, Permission, Partition]

Progress = Callable[[int], object]


class CannotCopy(Exception):
    """The copy is impossible. The message is shown to the user."""


def open_target(url: str) -> None:
    """Registers the database with Django, under the alias TARGET."""
    configured = connections.configure_settings({SOURCE: connections.settings[SOURCE], TARGET: database.parse(url)})
    connections.settings[TARGET] = configured[TARGET]


@contextmanager
def stopped() -> Iterator[None]:
    """Freezes the source. Raises CannotCopy if the product or a worker is running."""
    with _runner_kept_away():
        try:
            stats.expect_workers()
        except (LogUnavailable, stats.WorkersSilent):
            pass  # Without Redis nobody drains. Without a heartbeat for 15 s there is no worker.
        else:
            raise CannotCopy("Workers are running on this database. Stop them, and run this again 15 seconds later.")
        # Locks out drains by hand and drains before seeding: nothing is stored until the copy is complete.
        with transaction.atomic(SOURCE):
            list(Partition.objects.using(SOURCE).select_for_update())
            yield


@contextmanager
def _runner_kept_away() -> Iterator[None]:
    """Holds the lock of `make run`, so that it is not running and cannot start."""
    run = settings.DATA_DIR.run
    if not run.is_dir():
        yield  # It has never run here.
        return
    descriptor = file_lock.take(run / "lock")
    if descriptor is None:
        raise CannotCopy(f"The product is running on DATA_DIR {settings.DATA_DIR.root}. Stop it, and run this again.")
    try:
        yield
    finally:
        os.close(descriptor)


def expect_migrated() -> None:
    executor = MigrationExecutor(connections[SOURCE])
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        raise CannotCopy("The current database is not migrated. Run `manage.py migrate` first.")


def expect_empty() -> None:
    """Raises CannotCopy if the migrated target holds rows that no migration has made."""
    for model in models():
        rows = _rows(model, TARGET)
        if model is Partition:
            rows = rows.filter(drained_through__gt=0)
        elif model in MADE_BY_MIGRATE:
            continue
        if rows.exists():
            raise CannotCopy(
                f"The target is not empty: there are rows in {model._meta.db_table}. Name an empty database, "
                "or continue an interrupted copy with --resume."
            )


def clear_what_migrate_made() -> None:
    """Deletes the rows that migrations made, so that they can be copied like all others."""
    target = connections[TARGET]
    with target.constraint_checks_disabled(), target.cursor() as cursor:
        for model in MADE_BY_MIGRATE:
            # Not delete(), which would also delete rows that refer to them.
            cursor.execute(f"DELETE FROM {target.ops.quote_name(model._meta.db_table)}")


def models() -> list[type[Model]]:
    """Returns all models with a table, including those of many-to-many relations."""
    return [model for model in apps.get_models(include_auto_created=True) if model._meta.managed]


def total() -> int:
    return sum(_rows(model, SOURCE).count() for model in models())


def copy(model: type[Model], progress: Progress) -> None:
    """Copies the rows after the last one in the target. For an empty table, these are all rows."""
    target = connections[TARGET]
    fields = model._meta.concrete_fields
    quote = target.ops.quote_name
    columns = ", ".join(quote(str(field.column)) for field in fields)
    # Not bulk_create, which would set auto_now fields to the current time.
    insert = f"INSERT INTO {quote(model._meta.db_table)} ({columns}) VALUES ({', '.join(['%s'] * len(fields))})"
    there = _rows(model, TARGET).order_by("pk").values_list("pk", flat=True).last()
    if there is not None:
        progress(_rows(model, TARGET).count())
    for rows in _chunks(model, there):
        values = [
            [field.get_db_prep_save(value, target) for field, value in zip(fields, row, strict=True)] for row in rows
        ]
        # Tables are not in the order of their references. `check_constraints` checks all of them at the end.
        with target.constraint_checks_disabled(), transaction.atomic(TARGET), target.cursor() as cursor:
            cursor.executemany(insert, values)
        progress(len(rows))


def compare(model: type[Model], progress: Progress) -> None:
    """Compares all rows of both databases. Raises CannotCopy at the first difference."""
    names = _names(model)
    last: Any = None
    for rows in _chunks(model, None):
        key = names.index(model._meta.pk.attname)
        copied = _beyond(_rows(model, TARGET), last).filter(pk__lte=rows[-1][key]).order_by("pk").values_list(*names)
        if list(copied) != rows:
            raise CannotCopy(
                f"{model._meta.db_table} differs between the databases, in primary keys up to {rows[-1][key]}. "
                "Something has written to one of them. Start again with an empty target."
            )
        last = rows[-1][key]
        progress(len(rows))
    if _beyond(_rows(model, TARGET), last).exists():
        raise CannotCopy(f"{model._meta.db_table} has rows in the target that are not in the current database.")


def _chunks(model: type[Model], last: Any) -> Iterator[list[tuple]]:
    """Yields the source's rows with a primary key above `last`, in that order."""
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
