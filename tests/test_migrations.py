"""A migration only adds, so that the previous release runs on the new tables (docs/howto/upgrade.md)."""

from __future__ import annotations

import pytest
from django.conf import settings
from django.db import migrations
from django.db.migrations.loader import MigrationLoader
from django.db.models import NOT_PROVIDED

OURS = {"chatsystem", "writelog", "backoffice", "applications", "chats", "messages_app", "search", "live"}
#: What the previous release does not notice.
ADDING = (migrations.CreateModel, migrations.AddField, migrations.AddIndex)
#: Columns without a default in the database, of tables whose rows only a migration inserts.
FILLED_ONCE = {("partition", "owner")}
#: No release ran on the tables before them.
BEFORE_THE_FIRST_RELEASE = {"writelog.0004_owners"}

LATER = {
    f"{app}.{name}": migration
    for (app, name), migration in MigrationLoader(None).disk_migrations.items()
    if app in OURS and not migration.initial
}


def test_the_packages_are_the_installed_ones() -> None:
    installed = {name.rpartition(".")[2] for name in settings.INSTALLED_APPS}

    assert installed >= OURS
    assert len(LATER) >= 3


@pytest.mark.parametrize("name", sorted(LATER.keys() - BEFORE_THE_FIRST_RELEASE))
def test_a_migration_only_adds(name: str) -> None:
    for operation in LATER[name].operations:
        assert isinstance(operation, ADDING), operation
        if isinstance(operation, migrations.AddField):
            field = operation.field
            named = (operation.model_name_lower, operation.name_lower)
            assert field.null or field.db_default is not NOT_PROVIDED or named in FILLED_ONCE, (
                f"{name}: the previous release inserts without {operation.name}"
            )
