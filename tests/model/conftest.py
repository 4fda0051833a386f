"""Profiles and fixtures. `make test` runs the quick profile, `make model` the long one."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, Phase, settings
from pytest_django import Settings

from chatsystem.writelog import append, drain, keys, ownership, servers, tasks
from search.tasks import index_outbox
from tests.model.machine import PARTITIONS, World
from tests.model.standby import Standby
from tests.support.harness import forget_redis

QUICK = settings(
    max_examples=25,
    stateful_step_count=40,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
)
settings.register_profile("quick", QUICK)
settings.register_profile("long", QUICK, max_examples=700)
#: Without shrinking: a mutant is caught or not, and nobody reads the example.
settings.register_profile("mutants", QUICK, max_examples=60, phases=[Phase.generate])
settings.load_profile("quick")

#: Redis processes. An example may restart, restore or flush Redis one time less.
PROCESSES = 8


@pytest.fixture(scope="module")
def standby(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standby]:
    standby = Standby(tmp_path_factory.mktemp("redis"), PROCESSES)
    yield standby
    standby.kill()


@pytest.fixture
def world(standby: Standby, transactional_db: None, settings: Settings) -> Iterator[World]:
    settings.REDIS_URL = f"unix://{standby.address}"
    forget_redis()
    # Undone here, before the database is flushed, since a flush creates the rows of all partitions.
    with pytest.MonkeyPatch.context() as patched:
        # Two partitions, so that applications share one. Small batches, so that a drain has several.
        for module in (keys, servers):
            patched.setattr(module, "PARTITIONS", PARTITIONS)
        patched.setattr(drain, "BATCH", 5)
        patched.setattr(drain, "BATCH_BYTES", 60)
        # Drains start at once here, so each append that asks for one sends a hint.
        patched.setattr(append, "INTERVAL", 0)
        # A lost Redis never comes back here, so nobody waits for it.
        patched.setattr(ownership, "TAKE_OVER_AFTER", 0)
        for module in (drain, append):
            patched.setattr(module, "RETRY_DELAYS", (0, 0))
        world = World(standby)
        world.boundaries.install(patched)
        patched.setattr(secrets, "token_hex", world.token_hex)
        patched.setattr(tasks.drain_waiting, "delay", world.hint)
        patched.setattr(index_outbox, "apply_async", lambda **when: None)
        logging.disable()
        yield world
        logging.disable(logging.NOTSET)
    world.close()
    forget_redis()
    # Resets the primary keys too: other tests walk along them.
    call_command("flush", interactive=False, verbosity=0)
