"""No log holds a token, a key or a text, after good and bad requests of every route."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import requests

from chatsystem.conf.data_dir import DataDir
from chatsystem.logs.redaction import RouteForPath, TypeForException
from chatsystem.writelog.keys import Keys, partition_of
from tests.server.test_worker import answer
from tests.support.product import Product, eventually

ADMIN_KEY = "secret-admin-key-" + "k" * 20
#: The beginning of each text, key and query. Letters, so that a search finds it too.
SECRET = "zyxsecret"
UNKNOWN = "5ec2e7" * 5 + "00"

WORKER = "celery_app worker "


class Session:
    """Sends requests to a product, and collects the secrets in them and in their answers."""

    def __init__(self, product: Product) -> None:
        self.product = product
        self.secrets = {SECRET, ADMIN_KEY, UNKNOWN}
        self.statuses: list[int] = []

    def ask(self, method: str, path: str, data: Any = None, content: bytes | None = None, **headers: str) -> Any:
        sent = json.dumps(data).encode() if content is None and data is not None else content
        headers = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        response = requests.request(method, self.product.url + path, data=sent, headers=headers, timeout=30)
        self.statuses.append(response.status_code)
        return response

    def open(self) -> str:
        bearer = {"Authorization": f"Bearer {ADMIN_KEY}"}
        created = self.ask("POST", "/applications", {"name": f"{SECRET} name"}, **bearer).json()
        self.secrets.add(created["token"])
        return f"/applications/{created['token']}"

    def use_every_route(self, app: str) -> None:
        bearer = {"Authorization": f"Bearer {ADMIN_KEY}"}
        text, key = f"{SECRET} text", {"Idempotency_Key": f"{SECRET} key"}
        self.ask("GET", "/applications", **bearer)
        self.ask("GET", app)
        self.ask("PATCH", app, {"name": text})
        self.ask("POST", f"{app}/chats", {"title": text}, **key)
        self.ask("GET", f"{app}/chats")
        self.ask("GET", f"{app}/chats/1")
        self.ask("PATCH", f"{app}/chats/1", {"title": text})
        self.ask("POST", f"{app}/chats/1/messages", {"body": text}, **key)
        self.ask("POST", f"{app}/chats/1/messages", [{"body": text}] * 100)
        self.ask("GET", f"{app}/chats/1/messages?limit=1000")
        self.ask("GET", f"{app}/chats/1/messages/1")
        self.ask("PATCH", f"{app}/chats/1/messages/1", {"body": text})
        token = app.rpartition("/")[2]
        self.ask("GET", f"/search/{SECRET}?application={token}&chat=1")
        self.ask("GET", f"/search/{SECRET}", **bearer)
        for path in ("/health/live", "/health/ready", "/metrics"):
            self.ask("GET", path, **bearer)

    def ask_what_is_wrong(self, app: str) -> None:
        for path in (app, f"{app}/chats", f"{app}/chats/1", f"{app}/chats/1/messages", f"{app}/chats/1/messages/1"):
            for method in ("POST", "PATCH"):
                self.ask(method, path, {SECRET: SECRET})
                self.ask(method, path, content=f'{{"{SECRET}'.encode())
                self.ask(method, path, content=SECRET.encode(), Content_Type=f"text/{SECRET}")
            self.ask("PUT", path, {"name": SECRET})
            self.ask("GET", f"{path}?limit={SECRET}&{SECRET}={SECRET}")
            self.ask("GET", f"{path}/{SECRET}")
            self.ask("GET", path, Accept=f"text/{SECRET}")
            # Django logs an unknown host, so that the operator can add it.
            self.ask("GET", path, Host="elsewhere.example")
        for path in ("/applications", "/metrics", f"/search/{SECRET}"):
            self.ask("GET", path, Authorization=f"Bearer {SECRET}")
        self.ask("POST", f"{app}/chats", {"title": SECRET * 1000})
        self.ask("POST", f"{app}/chats", {"title": SECRET}, Idempotency_Key=SECRET * 100)
        self.ask("POST", f"{app}/chats", content=b'"' + SECRET.encode() * 600_000)
        self.ask("GET", f"/applications/{UNKNOWN}")
        self.ask("GET", f"/search/{SECRET}?application={UNKNOWN}")
        self.ask("POST", "/admin/login/", content=f"username={SECRET}&password={SECRET}".encode())
        self.ask("GET", f"/admin/{SECRET}/")
        for line in (
            f"GET {app}/{SECRET * 1000} HTTP/1.1\r\nHost: localhost\r\n\r\n",
            f"GET {app} HTTP/1.1\r\nHost: localhost\r\nX-Long: {SECRET * 1000}\r\n\r\n",
            f"GET {app} HTTP/{SECRET}\r\n\r\n",
            f"{SECRET}\x00 {app} HTTP/1.1\r\n\r\n",
            f"POST {app}/chats HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SECRET}\r\n\r\n",
            f"POST {app}/chats HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n{SECRET}\r\n\r\n",
        ):
            response, _ = answer(self.product.port, line.encode("latin-1"))
            self.statuses.append(response.status)

    def found_in(self, logs: dict[str, str]) -> set[tuple[str, str]]:
        return {(name, secret) for name, text in logs.items() for secret in self.secrets if secret in text}


@pytest.fixture
def product(tmp_path: Path) -> Iterator[Product]:
    product = Product(tmp_path / "data", settings={"ADMIN_API_KEY": ADMIN_KEY})
    product.start()
    try:
        eventually(product.ready)
        yield product
    finally:
        product.kill_everything()


def logs_of(product: Product) -> dict[str, str]:
    return {path.name: path.read_text(errors="replace") for path in DataDir(product.data_dir).logs.iterdir()}


@contextmanager
def state_of_a_wrong_kind(product: Product, app: str) -> Iterator[None]:
    """Causes an internal error: a key of the application's partition gets a type that no script expects."""
    pending = Keys(partition_of(app.rpartition("/")[2])).pending
    with product.state_client() as state:
        state.rename(pending, "aside")
        state.set(pending, SECRET)
        yield
        state.rename("aside", pending)


def test_no_log_holds_what_is_secret(product: Product) -> None:
    session = Session(product)
    app = session.open()

    session.use_every_route(app)
    session.ask_what_is_wrong(app)
    assert {200, 201, 400, 401, 404, 405, 406, 413, 414, 415, 431} <= set(session.statuses)
    assert not {500, 503} & set(session.statuses)

    # Requests that are answered 500, and failing tasks;
    product.signal(WORKER, signal.SIGSTOP)
    session.ask("POST", f"{app}/chats/1/messages", {"body": f"{SECRET} that waits"})
    with state_of_a_wrong_kind(product, app):
        product.signal(WORKER, signal.SIGCONT)
        session.ask("GET", f"{app}/chats/1/messages/1")
        session.ask("POST", f"{app}/chats/1/messages", {"body": SECRET})
        assert session.statuses[-2:] == [500, 500]
        eventually(lambda: "raised unexpected" in logs_of(product)["worker.log"])
    # and requests that are answered 503.
    product.signal("bin/redis-server ", signal.SIGKILL)
    session.ask("POST", f"{app}/chats/1/messages", {"body": SECRET})

    _, output = product.stop()
    logs = logs_of(product) | {"make run": output}
    assert session.found_in(logs) == set()
    # The logs still name the error and its place.
    assert "answered 500 at applications/<token:token>/chats/<number:chat_number>/messages" in logs["web.log"]
    assert "ResponseError" in logs["web.log"]
    assert 'chatsystem/writelog/scripts.py", line' in logs["web.log"]


def record_of(error: Exception, *args: Any, **extra: Any) -> logging.LogRecord:
    record = logging.LogRecord("name", logging.ERROR, "file", 1, "%s", args, (type(error), error, None))
    record.__dict__ |= extra
    return record


def failing() -> Exception:
    try:
        try:
            raise KeyError(SECRET)
        except KeyError as cause:
            raise ValueError(f"{SECRET} is not a number") from cause
    except ValueError as error:
        return error


@pytest.mark.parametrize(
    "told",
    [
        lambda: (RouteForPath(), record_of(failing(), SECRET, request=SECRET, status_code=500)),
        lambda: (TypeForException(), record_of(failing(), {"exc": SECRET, "traceback": SECRET})),
    ],
    ids=["a request", "a task"],
)
def test_what_exceptions_say_is_left_out_and_where_they_came_from_is_not(told: Callable) -> None:
    redact, record = told()

    assert redact.filter(record)

    text = logging.Formatter().format(record) + str(record.__dict__)
    assert SECRET not in text
    assert text.index("builtins.KeyError") < text.index("builtins.ValueError")
    assert "in failing" in text
