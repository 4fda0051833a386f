"""The proxy and the application have the same limits for a request, and answer the same errors beyond them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.deploy.proxy import ensure_nginx, nginx
from tests.support.harness import RealRedis, Tenant
from tests.support.places import assert_error
from tests.support.wire import Client, Server, request

KB, MB = 1024, 1024 * 1024


@pytest.fixture(scope="module")
def server(
    redis_server: RealRedis, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("gunicorn") / "log")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def proxy(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    ensure_nginx()
    with nginx(tmp_path_factory.mktemp("nginx"), web=f"127.0.0.1:{server.port}") as port:
        yield port


def post(ours: Tenant, size: int) -> bytes:
    bare = b'{"title": "text", "ignored": ""}'
    return request("POST", f"{ours.path}/chats", bare[:-2] + b"x" * (size - len(bare)) + b'"}')


@pytest.mark.parametrize(
    ("what", "size", "status", "code"),
    [
        ("body", 4 * MB, 201, None),
        ("body", 4 * MB + 1, 413, "payload_too_large"),
        ("body", 6 * MB, 413, "payload_too_large"),
        ("line", 8_000, 404, "not_found"),
        ("line", 9 * KB, 414, "request_line_too_long"),
        ("line", 20 * KB, 414, "request_line_too_long"),
        ("header", 8_000, 200, None),
        ("header", 9 * KB, 431, "headers_too_large"),
        ("header", 20 * KB, 431, "headers_too_large"),
    ],
)
def test_what_is_too_large_is_the_same_refusal_with_and_without_the_proxy(
    server: Server, proxy: int, ours: Tenant, what: str, size: int, status: int, code: str | None
) -> None:
    sent = {
        "body": lambda: post(ours, size),
        "line": lambda: request("GET", f"{ours.path}/" + "x" * (size - len(ours.path) - 16)),
        "header": lambda: request("GET", ours.path, None, "X-Long: " + "x" * (size - 8)),
    }[what]()

    details = set()
    for port in (server.port, proxy):
        with Client(port) as client:
            answer = client.ask(sent)
        assert answer.status == status
        if code:
            details.add(assert_error(answer, status, code)["errors"][0]["detail"])
    assert len(details) == (1 if code else 0)
