"""The log counts exactly what was acknowledged and what was stored."""

from __future__ import annotations

from typing import Any

import pytest

from chatsystem.writelog import stats, stream
from chatsystem.writelog.keys import partition_of
from tests.support.harness import Tenant, drain_all


def test_a_redis_that_has_counted_nothing_yet_tells_zero(state: Any) -> None:
    assert stats.sample()[:2] == (0, 0)


def test_every_acknowledged_event_is_counted_once_and_again_once_it_is_stored(ours: Tenant, theirs: Tenant) -> None:
    # Given two applications, two chats, three messages and a change,
    ours.chat()
    ours.batch(1, ["one", "two"])
    ours.api.patch(f"{ours.path}/chats/1/messages/2", {"body": "zwei"}, format="json")
    assert stats.sample()[:2] == (8, 0)

    # when all are stored, and a late drain removes them a second time,
    events = stream.read({partition_of(ours.token): 100})[partition_of(ours.token)].events
    drain_all()
    stream.remove([stream.Removal(partition_of(ours.token), events[-1].arrival, events)])

    # then each is counted once.
    assert stats.sample()[:2] == (8, 8)


def test_a_repeated_request_and_a_refused_one_are_not_counted(ours: Tenant, settings: Any) -> None:
    ours.chat(**{"Idempotency-Key": "k"})
    ours.chat(**{"Idempotency-Key": "k"})
    settings.WRITE_LOG_MAX_EVENTS = 2
    with pytest.raises(AssertionError):
        ours.chat()

    assert stats.sample().acknowledged == 2
