"""examples/chat_client.py against the running product, whose processes are killed meanwhile."""

from __future__ import annotations

import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timezone
from pathlib import Path

import pytest

from examples.chat_client import ApiError, ChatClient, Unanswered
from tests.support.ports import free_port
from tests.support.product import BASE_DIR, Product, children, eventually, kill

ADMIN_KEY = "k" * 43
WEB, REDIS = "chatsystem.wsgi", "bin/redis-server "


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("product") / "data", settings={"ADMIN_API_KEY": ADMIN_KEY})
    running.start()
    try:
        eventually(running.ready)
        yield running
    finally:
        running.kill_everything()


@pytest.fixture
def client(product: Product) -> ChatClient:
    eventually(product.ready)
    return ChatClient(product.url, admin_key=ADMIN_KEY)


@pytest.fixture
def chat(client: ChatClient) -> tuple[str, int]:
    """Returns the token of a new application, and the number of its only chat."""
    token = client.create_application("ours").token
    return token, client.create_chat(token, "a chat").number


def test_what_is_written_is_read_back_with_its_types(client: ChatClient) -> None:
    app = client.create_application("ours")
    assert client.application(app.token) == app
    assert app.created_at.tzinfo == timezone.utc
    assert client.rename_application(app.token, "still ours").name == "still ours"

    chat = client.create_chat(app.token, "a chat")
    assert client.chat(app.token, 1) == chat
    assert client.rename_chat(app.token, 1, "the chat").last_request_time > chat.last_request_time
    assert [each.title for each in client.chats(app.token)] == ["the chat"]

    first = client.create_message(app.token, 1, "Élan")
    rest = client.create_messages(app.token, 1, ["two", "three"])
    assert [first.number, *(message.number for message in rest)] == [1, 2, 3]
    assert client.change_message(app.token, 1, 2, "zwei").body == "zwei"
    assert client.message(app.token, 1, 3) == rest[1]
    assert [message.body for message in client.messages(app.token, 1)] == ["Élan", "zwei", "three"]
    eventually(lambda: app.token in {each.token for each in client.applications()})


def test_pages_are_read_as_far_as_somebody_goes(client: ChatClient, chat: tuple[str, int]) -> None:
    for _ in range(3):
        client.create_messages(*chat, ["x"] * 1000)

    assert [m.number for m in client.messages(*chat)] == list(range(1, 3001))
    assert [m.number for m in client.messages(*chat, newest_first=True)] == list(range(3000, 0, -1))
    assert [m.number for m in client.messages(*chat, after=2990)] == list(range(2991, 3001))
    assert [m.number for m in client.messages(*chat, after=1500, newest_first=True)] == list(range(3000, 1500, -1))
    assert [m.number for m in itertools.islice(client.messages(*chat), 2)] == [1, 2]
    # A walk includes messages that arrive during it.
    walk = client.messages(*chat, after=1500)
    next(walk)
    client.create_message(*chat, "late")
    assert list(walk)[-1].body == "late"


def test_search_finds_within_an_application_and_with_the_admin_key_in_all(
    client: ChatClient, chat: tuple[str, int]
) -> None:
    token, number = chat
    client.create_message(*chat, "a <quokka>? 100%")

    eventually(lambda: any(client.search("quok", application=token, chat=number)))

    [hit] = client.search("quok", application=token)
    assert (hit.application_token, hit.number, hit.highlight) == (token, 1, "a &lt;<em>quokka</em>&gt;? 100%")
    assert token in {hit.application_token for hit in client.search("quokka 100")}
    assert list(client.search("?/&#%", application=token)) == []


def test_a_refusal_is_told_at_once_and_as_the_api_tells_it(
    product: Product, client: ChatClient, chat: tuple[str, int]
) -> None:
    token, _ = chat
    for refused, status, code, attr in [
        (lambda: client.create_chat(token, ""), 400, "blank", "title"),
        (lambda: client.chat(token, 99), 404, "not_found", None),
        (lambda: client.create_messages(token, 1, ["x", ""]), 400, "blank", "1.body"),
        (lambda: ChatClient(product.url).create_application("x"), 401, "not_authenticated", None),
        (lambda: next(ChatClient(product.url, admin_key="wrong").applications()), 401, "not_authenticated", None),
    ]:
        with pytest.raises(ApiError) as error:
            refused()
        assert (error.value.status, error.value.code, error.value.attr) == (status, code, attr)


def test_the_admin_key_goes_nowhere_but_where_it_is_needed(chat: tuple[str, int]) -> None:
    """The server records all requests, like a proxy that logs headers."""
    with listening() as (url, heard):
        client = ChatClient(url, admin_key=ADMIN_KEY, patience=0.2)
        for ask in (lambda: client.application(chat[0]), lambda: next(client.applications())):
            with pytest.raises(Unanswered):
                ask()

    assert [("Bearer" in request, request.split(" ")[1].partition("?")[0]) for request in heard] == [
        (False, f"/applications/{chat[0]}"),
        (True, "/applications"),
    ]


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """The address of a server that answers every request with 503 and Retry-After: 60."""
    heard: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    heard.append(connection.recv(65_536).decode())
                    connection.sendall(b"HTTP/1.1 503 No\r\nRetry-After: 60\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}", heard
        server.shutdown(socket.SHUT_RDWR)
    thread.join()


def kill_web_processes(product: Product) -> None:
    (master,) = product.mains(WEB)
    for pid in children(master):
        kill(pid)


def restart_redis(product: Product) -> None:
    product.signal(REDIS, signal.SIGKILL)


def kill_web(product: Product) -> None:
    product.signal(WEB, signal.SIGKILL)


@pytest.mark.parametrize("fault", [kill_web_processes, kill_web, restart_redis])
def test_each_message_is_posted_once_whatever_is_killed_in_the_middle(
    product: Product, client: ChatClient, chat: tuple[str, int], fault: Callable[[Product], None]
) -> None:
    token, _ = chat
    chats = [client.create_chat(token, str(each)).number for each in range(4)]
    bodies_of: dict[int, list[str]] = {number: [] for number in chats}
    stop = threading.Event()

    def post(number: int) -> list[str]:
        posted = bodies_of[number]
        while not stop.is_set():
            bodies = [f"{number}:{len(posted) + each}" for each in range(1 + len(posted) % 3)]
            if len(bodies) == 1:
                created = [client.create_message(token, number, bodies[0])]
            else:
                created = client.create_messages(token, number, bodies)
            posted += bodies
            assert created[-1].number == len(posted)
            client.change_message(token, number, len(posted), bodies[-1])
        return posted

    with ThreadPoolExecutor(len(chats)) as pool:
        posting = [pool.submit(post, number) for number in chats]
        try:
            # Each chat gets some messages before each kill, and after the last.
            for times in range(1, 5):
                eventually(lambda: min(map(len, bodies_of.values())) >= 10 * times)  # noqa: B023
                if times < 4:
                    fault(product)
        finally:
            stop.set()

    for number, posted in zip(chats, posting, strict=True):
        assert [message.body for message in client.messages(token, number)] == posted.result()


def test_a_request_that_outlived_its_process_is_one_write_under_its_own_key(
    product: Product, client: ChatClient, chat: tuple[str, int]
) -> None:
    first = client.create_message(*chat, "once", key="from my own outbox")

    again = ChatClient(product.url).create_message(*chat, "once", key="from my own outbox")

    assert again == first
    assert len(list(client.messages(*chat))) == 1


def test_it_gives_up_when_its_patience_ends(client: ChatClient) -> None:
    nobody = ChatClient(f"http://127.0.0.1:{free_port()}", patience=1)
    began = time.monotonic()

    with pytest.raises(Unanswered, match=r"no answer \(ConnectionRefusedError\) after 1 s"):
        nobody.application("0" * 32)

    # Not at the first rejection.
    assert time.monotonic() - began > 0.3


def test_it_waits_for_as_long_as_a_rate_limit_says(tmp_path: Path) -> None:
    product = Product(tmp_path / "data", settings={"RATE_LIMIT": "2", "RATE_LIMIT_BURST": "2"})
    product.start()
    try:
        eventually(product.ready)
        client = ChatClient(product.url)
        token = client.create_application("limited").token
        began = time.monotonic()

        for number in range(1, 7):
            assert client.create_chat(token, "x").number == number

        # Six requests: two pass at once, the others at two per second.
        assert time.monotonic() - began > 1.9
    finally:
        product.kill_everything()


def test_a_chat_log_is_replayed_and_compared(product: Product, client: ChatClient, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    messages = [{"chat": f"#{each % 3}", "body": f"platypus number {each}"} for each in range(300)]
    log.write_text("".join(json.dumps(message) + "\n" for message in messages))
    command = [sys.executable, "examples/replay_chat_log.py", str(log), "--base", product.url]

    for options in ([], ["--batch", "50"]):
        run = subprocess.run(
            [*command, *options], cwd=BASE_DIR, env={"ADMIN_API_KEY": ADMIN_KEY}, capture_output=True, text=True
        )
        assert run.returncode == 0, run.stderr
        assert "differences            0" in run.stdout

    refused = subprocess.run(command, cwd=BASE_DIR, env={}, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "401 not_authenticated" in refused.stderr


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"", "holds no message"),
        (b'{"chat": "a", "body": "b"}\n{"chat": "a"}\n', "line 2: a line is"),
        (b'{"chat": 1, "body": "b"}\n', "line 1: a line is"),
        (b"[]", "line 1: a line is"),
        (b"\xff", "after line 0"),
    ],
)
def test_a_log_that_cannot_be_read_is_told_in_one_line(content: bytes | None, told: str, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    if content is not None:
        log.write_bytes(content)

    refused = replay(str(log))

    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert str(log) in refused.stderr
    assert told in refused.stderr


def test_a_server_that_is_not_there_is_told_in_one_line_before_anybody_gives_up() -> None:
    address = f"http://127.0.0.1:{free_port()}"

    refused = replay("examples/chat_log.jsonl", "--base", address)

    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert f"{address} does not answer" in refused.stderr


def replay(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "examples/replay_chat_log.py", *arguments]
    return subprocess.run(command, cwd=BASE_DIR, env={}, capture_output=True, text=True, timeout=60)
