"""Compares the write path with a model of it, over thousands of random orders of writes, drains and faults."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis.stateful import run_state_machine_as_test

from tests.model.machine import World, WritePath

SEED = 20_261_124


@pytest.mark.timeout(3600)
def test_whatever_happens_in_whatever_order_what_is_acknowledged_is_read_and_stored(
    world: World, pytestconfig: pytest.Config
) -> None:
    given = pytestconfig.getoption("--hypothesis-seed")
    seed = SEED if given is None else int(given)
    print(f"seed {seed}")

    @hypothesis.seed(seed)
    def write_path() -> WritePath:
        return WritePath(world)

    run_state_machine_as_test(write_path, settings=hypothesis.settings())

    print(world)
