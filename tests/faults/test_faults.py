"""Every fault of the catalogue, once, under load: service comes back, and every acknowledgement holds.

The short form of `make chaos`, which holds each recovery to its 15 s. Documented in docs/reliability.md.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.faults.catalogue import FAULTS, Fault
from tests.faults.load import AckLog, Load, more_acknowledgements
from tests.faults.recovery import recover
from tests.faults.settled import check_when_settled
from tests.faults.stack import Stack
from tests.support import environment
from tests.support.harness import skip_or_fail
from tests.support.services.packages import Missing

SEED = 20_261_125
SUBSCRIBERS = 8
#: Seconds between two writes of a client, so that processes that start get their share of the CPU.
PAUSE = 0.1
#: Seconds that a fault lasts.
LASTS = 1.5


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    try:
        stack = Stack(tmp_path_factory.mktemp("stack"), type(environment.server))
    except Missing as missing:
        skip_or_fail(missing)
    yield stack
    stack.close()


@pytest.fixture(scope="module")
def load(stack: Stack) -> Iterator[Load]:
    """Four clients and eight subscribers. The checker must find nothing when they have ended."""
    print(f"seed {SEED}")
    ack_log = stack.folder / "acknowledged.jsonl"
    load = Load(stack.product.url, AckLog(ack_log), clients=4, seed=SEED, subscribers=SUBSCRIBERS, pause=PAUSE)
    load.start()
    more_acknowledgements(load.log, 100)
    # Numbers continue from here.
    stack.copy_redis()
    more_acknowledgements(load.log, 100)
    recover(stack, load)
    yield load
    load.stop()
    violations, compared = check_when_settled(stack.product, ack_log)
    assert violations == []
    assert compared["delivered"]["deliveries"] >= 1000
    print(f"the {SUBSCRIBERS} subscribers: {compared['delivered']}")


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if not fault.long_form], ids=lambda fault: fault.name)
def test_service_is_back_after(fault: Fault, stack: Stack, load: Load) -> None:
    # Given a healthy stack, when the fault begins and ends,
    more_acknowledgements(load.log, 20)
    try:
        with fault.on(stack, load):
            time.sleep(LASTS)
    except Missing as missing:
        skip_or_fail(missing)

    # then new writes are acknowledged, stored and found by a search, without help.
    print(f"{fault.name}: back after {recover(stack, load):.1f} s")
