"""Stores applications: turns the changes of a batch into rows. Documented in docs/write-log.md."""

from __future__ import annotations

from collections.abc import Sequence

from applications.models import Application
from chatsystem.writelog import bulk
from chatsystem.writelog.bulk import update_newer
from chatsystem.writelog.events import Change


def write(changes: Sequence[Change]) -> None:
    """Stores created and changed applications in the running transaction."""
    moment = bulk.moments()
    fresh = [
        (f"{moment(change.created)}, {moment(change.arrival)}, %s, %s", (change.name, change.text))
        for change in changes
        if change.created is not None
    ]
    bulk.insert(Application, ("created_at", "last_request_time", "token", "name"), fresh)
    changed = [change for change in changes if change.created is None]
    stored = {row.token: row for row in Application.objects.filter(token__in=[change.name for change in changed])}
    update_newer(Application, "name", [(stored.get(change.name), change) for change in changed])
