"""Intervals that no wall clock stretches.

Celery's own compare dates: when the clock is set back by an hour, beat sends nothing for an hour.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from celery.schedules import schedule

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def every(seconds: float) -> schedule:
    """For CELERY_BEAT_SCHEDULE."""
    return schedule(seconds, nowfun=_now)


def _now() -> datetime:
    """No date: it only goes on with the time that passes. beat keeps it in memory, never in a file."""
    return EPOCH + timedelta(seconds=time.monotonic())
