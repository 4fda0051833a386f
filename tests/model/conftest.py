"""`make test` runs the quick profile, `make model` the long one."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator

import pytest
from django.core.management import call_command
from hypothesis import HealthCheck, Phase, settings
from pytest_django import Settings

from chatsystem.writelog import drain, keys, log, state, tasks, vitals
from search.tasks import index_outbox
from tests.bench import forget_redis
from tests.model.machine import PARTITIONS, World
from tests.model.standby import Standby

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
#: The first failure as it comes: a mutant is caught or not, and nobody reads how.
settings.register_profile("mutants", QUICK, max_examples=60, phases=[Phase.generate])
settings.load_profile("quick")

#: Processes of Redis: an example may restart, restore or flush it one time fewer.
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
    # Undone here, before the database is emptied: that makes the rows of all partitions again.
    with pytest.MonkeyPatch.context() as patched:
        # Two partitions, so that applications share one; small batches, so that a drain has several.
        for module in (keys, state, vitals):
            patched.setattr(module, "PARTITIONS", PARTITIONS)
        patched.setattr(drain, "BATCH", 5)
        for module in (drain, log):
            patched.setattr(module, "RETRY_DELAYS", (0, 0))
        world = World(standby)
        world.boundaries.install(patched)
        patched.setattr(secrets, "token_hex", world.token_hex)
        patched.setattr(tasks.drain_partition, "delay", lambda partition, hinted_at=0.0: world.hints.add(partition))
        patched.setattr(index_outbox, "apply_async", lambda **when: None)
        logging.disable()
        yield world
        logging.disable(logging.NOTSET)
    world.close()
    forget_redis()
    # With the primary keys: tests that walk by them would walk by those of all examples.
    call_command("flush", interactive=False, verbosity=0)
