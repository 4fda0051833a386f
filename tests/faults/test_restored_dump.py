"""A database restored from an old dump while Redis is ahead is refused, and never filled with reused numbers."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from tests.faults.load import AckLog, Client
from tests.support import environment
from tests.support.product import BASE_DIR, Product, eventually


def test_an_older_dump_is_refused_until_the_loss_is_accepted_and_no_number_is_given_twice(
    product: Product, tmp_path: Path
) -> None:
    # Given messages in the dump, and messages that were stored after it,
    product.wait_until_ready()
    log = AckLog(tmp_path / "acknowledged.jsonl")
    client = Client(product.url, log)
    token = client.create_application("ours")
    chat = client.create_chat(token)
    url = f"/applications/{token}/chats/{chat.partition('/')[2]}/messages"
    kept = client.create_messages(token, chat, 20)
    wait_until_stored(client, url)
    environment.server.copy_database("product", "dump")
    lost = client.create_messages(token, chat, 20)
    wait_until_stored(client, url)
    product.wait_until_drained()
    # A worker may still hold the events that it read. It would store them after the restore, and nothing would be lost.
    product.signal("celery_app worker ", signal.SIGKILL)

    # when the dump is restored while the product runs,
    environment.server.copy_database("dump", "product")

    # then soon nothing is accepted or read, and readiness says why,
    eventually(lambda: client._try("GET", url).status_code == 503)
    assert client._try("POST", url, {"body": "refused"}).status_code == 503
    assert product.states()["database"] == "degraded: older than it was: 1 partitions are halted"
    # also after a restart of everything.
    product.kill_everything()
    product.start()
    product.wait_until_ready()
    assert client._try("POST", url, {"body": "refused"}).status_code == 503

    # And once the loss is accepted, the next numbers follow the lost ones.
    command = [sys.executable, "manage.py", "accept_database", "--yes"]
    subprocess.run(command, cwd=BASE_DIR, env=product.environ(), check=True, stdout=subprocess.DEVNULL)
    new = client.create_messages(token, chat, 20)
    assert not set(new) & {*kept, *lost}
    eventually(lambda: product.states()["database"] == "ok")
    wait_until_stored(client, url, messages=40)
    numbers = [message["number"] for message in client._try("GET", f"{url}?limit=1000").json()["results"]]
    log.file.close()
    assert numbers == [*range(1, 21), *range(41, 61)]


def wait_until_stored(client: Client, url: str, messages: int = 0) -> None:
    """Returns the number of rows, by `messages_count`."""
    chat = url.removesuffix("/messages")
    wanted = messages or client._try("GET", f"{url}?order=desc&limit=1").json()["results"][0]["number"]
    eventually(lambda: client._try("GET", chat).json()["messages_count"] == wanted)
