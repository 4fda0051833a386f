"""Lets each session of a Galera cluster see what any node has committed. Documented in docs/databases.md."""

from __future__ import annotations

from typing import Any

from django.db.backends.signals import connection_created
from django.dispatch import receiver

#: Statements that wait until the node has applied what was committed before: SELECT and BEGIN (1), UPDATE and
#: DELETE (2), INSERT (4). In a transaction only the first one waits.
SYNC_WAIT = 7

UNKNOWN_VARIABLE = 1193


@receiver(connection_created)
def wait_for_other_nodes(connection: Any, **kwargs: object) -> None:
    """Sets `wsrep_sync_wait`. MariaDB ignores it unless it is a node of a cluster. MySQL does not know it.

    Without it, a node that lags is an older database: a drained message would be a 404, and the rollback guard would
    halt its partition.
    """
    if connection.vendor != "mysql":
        return
    # The driver's cursor: after an error of Django's, the connection would be tested before its next use.
    with connection.connection.cursor() as cursor:
        try:
            cursor.execute(f"SET SESSION wsrep_sync_wait = {SYNC_WAIT}")
        except connection.Database.OperationalError as error:
            if error.args[0] != UNKNOWN_VARIABLE:
                raise
