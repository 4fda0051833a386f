"""What an error of the database says: again, never this row, or not now. Documented in docs/write-log.md.

Only the middle one sets an event aside. A missing table, a full disk or a server that is read-only is no fault of an
event: it stays in the log, and the sweep tries again.
"""

from __future__ import annotations

from django.db import DataError, IntegrityError, OperationalError

CONNECTION_LOST = 2013  # in the middle of a statement

#: MySQL's and MariaDB's numbers of what a new try of the whole transaction is likely to get over.
PASSING = {
    1020,  # the row has changed since it was read (MariaDB's innodb_snapshot_isolation)
    1205,  # a lock was not given in time
    1213,  # a deadlock, and this transaction was the one to yield
    1927,  # the connection was killed
    2006,  # the server has gone away
    CONNECTION_LOST,
    4031,  # the server ended an idle connection (MySQL's word for it, where MariaDB says 2006)
}

#: Those of a value that its column cannot hold, which mysqlclient files under OperationalError.
OF_A_VALUE = {
    1292,  # incorrect value
    1300,  # invalid character string
    1366,  # incorrect string value
    3854,  # cannot convert from one character set to another
}


def is_passing(error: OperationalError) -> bool:
    return _number(error) in PASSING


def is_of_the_row(error: Exception) -> bool:
    """Whether the same row would be refused again. Among them what our own code raises about an event."""
    if isinstance(error, OperationalError):
        return _number(error) in OF_A_VALUE
    return isinstance(error, DataError | IntegrityError | ValueError | LookupError)


def _number(error: OperationalError) -> object:
    return error.args[0] if error.args else None
