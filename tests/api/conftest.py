"""Fixtures for the contract tests: each kind of entity in turn, undrained and drained."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.harness import Tenant, drain_all
from tests.support.places import KINDS, Place, place_of


@pytest.fixture(params=["undrained", "drained"])
def settle(request: pytest.FixtureRequest) -> Callable[[], object]:
    """Returns a function to call between a write and a read. In one run it does nothing, in the other it drains."""
    return drain_all if request.param == "drained" else lambda: None


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, ours: Tenant) -> Place:
    """The routes of ours' applications, chats and messages, in turn."""
    return place_of(request.param, ours)


@pytest.fixture
def chats(ours: Tenant) -> Place:
    return place_of("chat", ours)


@pytest.fixture
def messages(ours: Tenant) -> Place:
    return place_of("message", ours)


@pytest.fixture
def places(ours: Tenant) -> list[Place]:
    """All three in one test, for checks so fast that a separate test would mostly empty tables."""
    return [place_of(kind, ours) for kind in KINDS]
