"""The database server killed under load and started again: posts do not notice, and nothing is lost."""

from __future__ import annotations

import time
from pathlib import Path

from tests import environment
from tests.embedded.product import Product, connections, eventually
from tests.faults.load import AckLog, Client, Load, more_acknowledgements
from tests.faults.settled import check_when_settled

SEED = 20_261_124
#: Of the product: conftest.py.
WORKERS = 5
KILLS = 3


def test_nothing_acknowledged_is_lost_when_the_database_server_is_killed_under_load(
    product: Product, tmp_path: Path
) -> None:
    # Given eight clients that write, and read what they wrote,
    print(f"seed {SEED}")
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED)
    load.start()
    steady = Client(product.url, log)
    token, chat = load.chats[0]

    # when the server is killed three times,
    for _ in range(KILLS):
        more_acknowledgements(log, 300)
        environment.server.kill()
        # then posts are accepted all the same (an update is not: its answer needs the row),
        refused = log.seen["refused POST"]
        for size in (1, 20) * 10:
            steady.create_messages(token, chat, size)
        assert log.seen["refused POST"] == refused
        environment.server.start()
        # and it is not long until all is well again.
        assert eventually(lambda: product.states()["database"] == "ok") < 15
    more_acknowledgements(log, 300)
    load.stop()

    # And once all is stored and indexed, the checker finds nothing.
    violations, compared = check_when_settled(product, tmp_path / "acknowledged.jsonl")
    assert violations == []
    assert compared["acknowledged"] >= (KILLS + 1) * 300
    assert log.seen["refused GET"] > 0
    # Tokens are keys: a path that was answered 503 is not to be logged.
    assert token not in (product.data_dir / "logs/web.log").read_text()


def test_the_workers_have_no_more_connections_than_there_are_of_them(product: Product, tmp_path: Path) -> None:
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED)
    load.start()

    seen = []
    for _ in range(200):
        seen.append(connections(product.pids("celery"), environment.server.port))
        time.sleep(0.02)
    load.stop()

    print(f"connections of the workers: {sorted(set(seen))}, acknowledged: {log.seen['ack']}")
    assert 1 <= max(seen) <= WORKERS
