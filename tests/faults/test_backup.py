"""Backup and restore of Redis and database under load keep everything that was acknowledged before the backup."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from chatsystem.conf.data_dir import DataDir
from tests.faults.load import AckLog, Client, Load, more_acknowledgements
from tests.faults.settled import check_when_settled
from tests.support import environment
from tests.support.product import BASE_DIR, Product, eventually
from tests.support.services.database_server import DatabaseServer
from tests.support.services.mariadb import MariaDB

SEED = 20_261_126
#: The command of docs/runbook.md.
COPY_SQLITE = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('VACUUM INTO ?', sys.argv[2:])"

BEGUN = "backup begun"


class Backup:
    """One backup: a copy of Redis and one of the database."""

    def __init__(self, folder: Path) -> None:
        self.redis, self.database = folder / "redis.tar", folder / "database"

    def copy_redis(self, product: Product) -> None:
        with self.redis.open("wb") as tar:
            command = [BASE_DIR / "deploy/redis/backup.sh", DataDir(product.data_dir).redis]
            subprocess.run(command, check=True, stdout=tar)

    def copy_database(self, product: Product) -> None:
        if environment.server:
            assert isinstance(environment.server, MariaDB)
            environment.server.dump("product", self.database)
        else:
            files = [DataDir(product.data_dir).database, self.database]
            subprocess.run([sys.executable, "-c", COPY_SQLITE, *files], check=True)

    def restore(self, data_dir: Path, server: DatabaseServer | None) -> Product:
        """Restores into an empty DATA_DIR and, with a database server, an empty database. Starts nothing."""
        there = DataDir(data_dir)
        there.redis.mkdir(parents=True, mode=0o700)
        subprocess.run(["tar", "-x", "-C", there.redis, "-f", self.redis], check=True)
        settings = {"WORKERS": "5"}
        if server:
            assert isinstance(server, MariaDB)
            settings["DATABASE_URL"] = server.new_database("product")
            server.load("product", self.database)
        else:
            shutil.copy(self.database, there.database)
        return Product(data_dir, settings=settings)


@pytest.fixture
def fresh_server(tmp_path: Path) -> Iterator[DatabaseServer | None]:
    """A second, empty server."""
    server = environment.SERVERS[environment.DATABASE](tmp_path / "server") if environment.server else None
    if server:
        server.start()
    yield server
    if server:
        server.kill()


@contextmanager
def started(product: Product) -> Iterator[None]:
    product.start()
    try:
        product.wait_until_ready()
        yield
    finally:
        product.kill_everything()


@pytest.mark.parametrize("drained", [True, False], ids=["drained between the copies", "not drained before both"])
def test_a_pair_copied_under_load_restores_all_that_was_acknowledged_before(
    product: Product, tmp_path: Path, fresh_server: DatabaseServer | None, drained: bool
) -> None:
    # Given a product under load, with undrained events in its log,
    print(f"seed {SEED}")
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    load = Load(product.url, log, clients=4, seed=SEED)
    load.start()
    more_acknowledgements(log, 200)
    backup = Backup(tmp_path)
    with product.standing_still("celery_app worker "):
        more_acknowledgements(log, 200)

        # when its Redis is copied first and its database second under load, and then everything is lost,
        log.write(BEGUN)
        backup.copy_redis(product)
        if not drained:
            backup.copy_database(product)
    if drained:
        # Once this chat is stored, so is everything before it, which the copy of Redis contains too.
        wait_until_stored(product, load.chats[0][0], Client(product.url, log))
        backup.copy_database(product)
    more_acknowledgements(log, 200)
    load.stop()
    product.kill_everything()
    restored = backup.restore(tmp_path / "restored", fresh_server)
    with started(restored):
        # then writes continue after the last restored number,
        kept = what_is_left(tmp_path / "acknowledged.jsonl", restored)
        after = AckLog(tmp_path / "after.jsonl")
        client = Client(restored.url, after)
        for token, chat in load.chats:
            client.create_messages(token, chat, 20)
            client.create_chat(token)
        after.file.close()
        manage(restored, "reindex")

        # and the checker finds everything that was acknowledged before the first copy, no number twice, and
        # nothing half-written of what came later.
        together = tmp_path / "together.jsonl"
        together.write_text(kept + (tmp_path / "after.jsonl").read_text())
        violations, compared = check_when_settled(restored, together)
    assert violations == []
    assert compared["acknowledged"] > 400


def test_a_pair_copied_in_the_wrong_order_is_refused(
    product: Product, tmp_path: Path, fresh_server: DatabaseServer | None
) -> None:
    # Given a database copied before Redis, and writes that were stored between the two copies,
    product.wait_until_ready()
    client = Client(product.url, AckLog(tmp_path / "acknowledged.jsonl"))
    token = client.create_application("ours")
    wait_until_stored(product, token, client)
    backup = Backup(tmp_path)
    backup.copy_database(product)
    wait_until_stored(product, token, client)
    # The pair would lack nothing if the log still held the chat.
    product.wait_until_drained()
    backup.copy_redis(product)
    product.kill_everything()
    client.log.file.close()

    # when they are restored, then the gap is noticed: nothing is accepted, and no lost number is reused.
    restored = backup.restore(tmp_path / "restored", fresh_server)
    with started(restored):
        eventually(lambda: restored.states()["database"] == "degraded: older than it was: 1 partitions are halted")
        chats = f"{restored.url}/applications/{token}/chats"
        assert requests.post(chats, json={"title": "refused"}, timeout=20).status_code == 503


def wait_until_stored(product: Product, token: str, client: Client) -> None:
    """Creates a chat, and waits until it is stored, by the application's count."""
    number = int(client.create_chat(token).rpartition("/")[2])
    application = f"{product.url}/applications/{token}"
    eventually(lambda: requests.get(application, timeout=20).json()["chats_count"] >= number)


def what_is_left(ack_log: Path, restored: Product) -> str:
    """Returns the log without the acknowledgements after the backup began that the backup does not contain.

    Those may be missing. One that is there has to be there as it was acknowledged.
    """
    entries = [json.loads(line) for line in ack_log.read_text().splitlines()]
    begun = next(i for i, entry in enumerate(entries) if entry["kind"] == BEGUN)
    times = dict(last_request_times(restored, entries))
    kept = [
        entry
        for i, entry in enumerate(entries)
        if entry["kind"] != "ack" or i < begun or entry["at"] <= times.get(entry["path"], "")
    ]
    return "".join(f"{json.dumps(entry)}\n" for entry in kept)


def last_request_times(product: Product, entries: list[dict]) -> Iterator[tuple[str, str]]:
    """Returns every chat and message of the log's applications, by path."""
    for token in {entry["path"].partition("/")[0] for entry in entries if entry["kind"] == "ack"}:
        for chat in rows(f"{product.url}/applications/{token}/chats"):
            yield f"{token}/{chat['number']}", chat["last_request_time"]
            for message in rows(f"{product.url}/applications/{token}/chats/{chat['number']}/messages"):
                yield f"{token}/{chat['number']}/{message['number']}", message["last_request_time"]


def rows(url: str | None) -> Iterator[dict]:
    """Yields the entities of all pages."""
    url = f"{url}?limit=1000"
    while url:
        page = requests.get(url, timeout=20).json()
        yield from page["results"]
        url = page["next"]


def manage(product: Product, command: str) -> None:
    words = [sys.executable, "manage.py", command]
    subprocess.run(words, cwd=BASE_DIR, env=product.environ(), check=True, stdout=subprocess.DEVNULL)
