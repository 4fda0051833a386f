"""The contract's bench: each kind of entity in turn, both undrained and drained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.api.bench import KINDS, Place, place_of
from tests.bench import Tenant, drain_all


@pytest.fixture(params=["undrained", "drained"])
def settle(request: pytest.FixtureRequest) -> Callable[[], object]:
    """Call it between a write and a read: once everything stays in the log, once everything gets stored."""
    return drain_all if request.param == "drained" else lambda: None


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, ours: Tenant) -> Place:
    """Where ours' applications, chats and messages are posted, in turn."""
    return place_of(request.param, ours)


@pytest.fixture
def chats(ours: Tenant) -> Place:
    return place_of("chat", ours)


@pytest.fixture
def messages(ours: Tenant) -> Place:
    return place_of("message", ours)


@pytest.fixture
def places(ours: Tenant) -> list[Place]:
    """All three, for what is so quickly refused that a test for each would mostly empty tables."""
    return [place_of(kind, ours) for kind in KINDS]
