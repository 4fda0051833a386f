"""Beat schedules on the monotonic clock.

Celery compares wall-clock times. When the clock is set back by an hour, beat would send nothing for an hour.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from celery.schedules import schedule

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def every(seconds: float) -> schedule:
    """Returns an entry for CELERY_BEAT_SCHEDULE."""
    return schedule(seconds, nowfun=_now)


def _now() -> datetime:
    """Not a real date: it only measures elapsed time. beat keeps it in memory, never in a file."""
    return EPOCH + timedelta(seconds=time.monotonic())
