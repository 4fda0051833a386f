"""The log counts what was acknowledged and what has left it for the database, exactly."""

from __future__ import annotations

from typing import Any

import pytest

from chatsystem.writelog import history, log
from chatsystem.writelog.keys import partition_of
from tests.bench import Tenant, drain_all


def test_a_redis_that_has_counted_nothing_yet_tells_zero(state: Any) -> None:
    assert history.sample()[:2] == (0, 0)


def test_every_acknowledged_event_is_counted_once_and_again_once_it_is_stored(ours: Tenant, theirs: Tenant) -> None:
    # Given two applications, two chats and a message, two messages more and a change,
    ours.chat()
    ours.batch(1, ["one", "two"])
    ours.api.patch(f"{ours.path}/chats/1/messages/2", {"body": "zwei"}, format="json")
    assert history.sample()[:2] == (8, 0)

    # when all is stored, and stored once more by a drain that comes late,
    events = log.read(partition_of(ours.token), 100)
    drain_all()
    log.remove(partition_of(ours.token), events[-1].arrival, events)

    # then each is counted once.
    assert history.sample()[:2] == (8, 8)


def test_a_repeated_request_and_a_refused_one_are_not_counted(ours: Tenant, settings: Any) -> None:
    ours.chat(**{"Idempotency-Key": "k"})
    ours.chat(**{"Idempotency-Key": "k"})
    settings.WRITE_LOG_MAX_EVENTS = 2
    with pytest.raises(AssertionError):
        ours.chat()

    assert history.sample().acknowledged == 2
