"""Classifies database errors: retry, never this row, or not now. Documented in docs/write-log.md.

Only "never this row" makes an event a dead letter. A missing table, a full disk or a read-only server is no fault of an
event: it stays in the log and the sweep tries again.
"""

from __future__ import annotations

from django.db import DataError, IntegrityError, OperationalError

CONNECTION_LOST = 2013  # in the middle of a statement

#: Another transaction holds what a statement needs: lock wait time-out, deadlock.
LOCKED = {1205, 1213}

#: MySQL's and MariaDB's numbers of errors that a retry of the whole transaction is likely to pass.
PASSING = {
    1020,  # the row has changed since it was read (MariaDB's innodb_snapshot_isolation)
    *LOCKED,  # of a deadlock, this transaction was the victim
    1927,  # the connection was killed
    2006,  # the server has gone away
    CONNECTION_LOST,
    4031,  # the server ended an idle connection (MySQL's word for it, where MariaDB says 2006)
}

#: Numbers of values that do not fit their column, which mysqlclient raises as OperationalError.
OF_A_VALUE = {
    1292,  # incorrect value
    1300,  # invalid character string
    1366,  # incorrect string value
    3854,  # cannot convert from one character set to another
}


def is_passing(error: OperationalError) -> bool:
    return number(error) in PASSING


def is_of_the_row(error: Exception) -> bool:
    """Returns whether the same row would be refused again. Includes what our own code raises about an event."""
    if isinstance(error, OperationalError):
        return number(error) in OF_A_VALUE
    return isinstance(error, DataError | IntegrityError | ValueError | LookupError)


def number(error: Exception) -> object:
    return error.args[0] if error.args else None
