"""Posts are accepted while the database server is down. test_faults.py shows that nothing is lost."""

from __future__ import annotations

from pathlib import Path

from tests.faults.load import AckLog, Client, Load, more_acknowledgements
from tests.support import environment
from tests.support.product import Product, connections, eventually

SEED = 20_261_124
#: The product's settings (conftest.py).
WORKERS = 5


def test_posts_are_accepted_while_the_database_server_is_away(product: Product, tmp_path: Path) -> None:
    # Given clients that write,
    print(f"seed {SEED}")
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED)
    load.start()
    more_acknowledgements(log, 300)

    # when the server is killed under load,
    environment.server.kill()

    # then posts are still accepted (updates are not, since their answer needs the row),
    steady = Client(product.url, log)
    token, chat = load.chats[0]
    refused = log.seen["refused POST"]
    for size in (1, 20) * 10:
        steady.create_messages(token, chat, size)
    assert log.seen["refused POST"] == refused
    environment.server.start()
    load.stop()
    assert log.seen["refused GET"] > 0
    # and no path that was answered 503 is in the log, since tokens are keys.
    assert token not in (product.data_dir / "logs/web.log").read_text()


def test_the_workers_have_no_more_connections_than_there_are_of_them(product: Product, tmp_path: Path) -> None:
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=8, seed=SEED)
    load.start()

    seen = []

    def look() -> bool:
        seen.append(connections(product.pids("celery"), environment.server.port))
        return len(seen) >= 200 and max(seen) > 0

    eventually(look)
    load.stop()

    print(f"connections of the workers: {sorted(set(seen))}, acknowledged: {log.seen['ack']}")
    assert 1 <= max(seen) <= WORKERS
