"""How the tests are distributed over the processes of `make test`: by file, the longest files first.

A file that starts last would leave the others idle. By itself pytest-xdist starts with the files that have the
most tests. Those of the real product have few, and take the longest.
"""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

#: These start one Elasticsearch for all of them. In several processes each process would start its own.
ON_ELASTICSEARCH = "tests/search/"

#: The files that take the longest, in that order. A run with `--durations=0` shows them.
LONG = [
    # Only on a database server.
    "tests/faults/test_faults.py",
    "tests/faults/test_two_hosts.py",
    ON_ELASTICSEARCH,
    "tests/embedded/test_run.py",
    "tests/docs/test_commands.py",
    "tests/website/test_in_a_browser.py",
    "tests/openapi/test_fuzz.py",
    "tests/faults/test_backup.py",
    "tests/examples/test_chat_client.py",
    "tests/openapi/test_page.py",
    "tests/live/test_server.py",
    "tests/embedded/test_other_redis.py",
    "tests/embedded/test_operations_in_a_browser.py",
    "tests/faults/test_sigkill_everything.py",
    "tests/live/test_proxy.py",
    "tests/deploy/test_prometheus.py",
    "tests/server/test_request_metrics.py",
    "tests/faults/test_rolling_deploy.py",
    "tests/writelog/test_servers.py",
    "tests/model/test_write_path.py",
    "tests/writelog/test_redis_as_a_service.py",
]


def unit(nodeid: str) -> str:
    """Returns the name of what is run in one process, one test after the other."""
    file = nodeid.partition("::")[0]
    return ON_ELASTICSEARCH if file.startswith(ON_ELASTICSEARCH) else file


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Keeps the order within a file, and that of the other files."""
    return sorted(items, key=lambda item: LONG.index(unit(item.nodeid)) if unit(item.nodeid) in LONG else len(LONG))


class LongestFirst(LoadScopeScheduling):
    """Distributes units in the order of their first tests."""

    def __init__(self, config: pytest.Config, log: object = None) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        return unit(nodeid)
