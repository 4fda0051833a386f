"""A configured service that answers is not reported and does not prevent a start."""

from __future__ import annotations

import pytest
from django.db import connections

from chatsystem.monitoring import reachable


def test_services_that_answer_are_not_reported(
    monkeypatch: pytest.MonkeyPatch, state: object, transactional_db: None
) -> None:
    for name in ("REDIS_URL", "DATABASE_URL", "CACHE_URL", "CELERY_BROKER_URL"):
        monkeypatch.setenv(name, "named")
    # As in a process that has just started.
    connections.close_all()

    assert reachable.unreachable() == {}
