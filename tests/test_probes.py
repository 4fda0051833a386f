"""Probes of several dependencies at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from chatsystem.probes import MOST_LATE, Probes
from tests.support.product import PATIENCE, eventually


@pytest.fixture
def resumed() -> Iterator[threading.Event]:
    """Lets the probes that hang end, at the latest with the test."""
    event = threading.Event()
    yield event
    event.set()


def test_threads_of_a_probe_that_hangs_do_not_pile_up_and_it_is_asked_again_when_they_end(
    resumed: threading.Event,
) -> None:
    # Given a dependency that hangs for longer than anybody waits,
    probes = Probes()
    started: list[threading.Thread] = []

    def hang() -> str:
        started.append(threading.current_thread())
        resumed.wait(PATIENCE)
        return "ok"

    # when it is probed again and again, then only so many threads wait for it,
    for _ in range(3 * MOST_LATE):
        assert isinstance(probes.run({"hangs": hang}, 0)["hangs"], TimeoutError)
    eventually(lambda: len(started) >= MOST_LATE)
    assert len(started) == MOST_LATE
    # others are still probed,
    assert probes.run({"hangs": hang, "works": lambda: "ok"}, PATIENCE)["works"] == "ok"
    assert len(started) == MOST_LATE
    # and so is this one once it resumes.
    resumed.set()
    eventually(lambda: not any(thread.is_alive() for thread in started))
    assert probes.run({"hangs": hang}, PATIENCE) == {"hangs": "ok"}
