"""The server's own errors are JSON in the API's error shape, and readable by a client that still sends."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPResponse

import pytest

from tests.support.product import BASE_DIR, PATIENCE, Product, eventually

LONG = b"x" * 9_000
HEAD = b"Host: localhost\r\n"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """gunicorn with the product's configuration and a stub application."""
    product = Product(tmp_path_factory.mktemp("server"))
    command = [sys.executable, "-m", "gunicorn", "--config", "python:chatsystem.embedded.gunicorn"]
    with subprocess.Popen(
        [*command, "tests.support.stub_app"], cwd=BASE_DIR, env=product.environ(), stderr=subprocess.DEVNULL
    ) as server:
        eventually(lambda: _listens(product.port))
        yield product.port
        server.terminate()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def answer(port: int, *parts: bytes) -> tuple[HTTPResponse, bytes]:
    """Sends everything before it reads, like most clients."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        for part in parts:
            client.sendall(part)
        response = HTTPResponse(client)
        response.begin()
        return response, response.read()


@pytest.mark.parametrize(
    ("request_bytes", "status", "code"),
    [
        (b"GET /" + LONG + b" HTTP/1.1\r\n" + HEAD + b"\r\n", 414, "request_line_too_long"),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X-Long: " + LONG + b"\r\n\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"X-Many: 1\r\n" * 200 + b"\r\n", 431, "headers_too_large"),
        (b"GET / HTTP/1.1\r\n" + HEAD + b"Expect: miracles\r\n\r\n", 417, "expectation_failed"),
        (b"g\x00t / HTTP/1.1\r\n" + HEAD + b"\r\n", 400, "malformed_request"),
        (b"GET / HTTP/9.9\r\n" + HEAD + b"\r\n", 400, "malformed_request"),
        (b"GET\r\n\r\n", 400, "malformed_request"),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400, "malformed_request"),
        (b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: -1\r\n\r\n", 400, "malformed_request"),
        (b"POST / HTTP/1.1\r\n" + HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 400, "malformed_request"),
    ],
)
def test_a_malformed_request_is_refused_in_the_error_shape(
    port: int, request_bytes: bytes, status: int, code: str
) -> None:
    response, body = answer(port, request_bytes)

    assert response.status == status
    assert response.headers["Content-Type"] == "application/json"
    assert response.headers["Connection"] == "close"
    refusal = json.loads(body)
    assert refusal["type"] == "client_error"
    assert [(error["code"], error["attr"]) for error in refusal["errors"]] == [(code, None)]


def test_a_request_line_and_a_header_of_8_kb_are_accepted(port: int) -> None:
    line = b"GET /" + b"x" * 8_170 + b" HTTP/1.1\r\n"

    response, body = answer(port, line + HEAD + b"X-Long: " + b"x" * 8_150 + b"\r\n\r\n")

    assert (response.status, body) == (200, b"ok")


def test_headers_of_a_client_do_not_reach_into_the_wsgi_environment(port: int) -> None:
    response, _ = answer(port, b"GET / HTTP/1.1\r\n" + HEAD + b"Script_Name: /elsewhere\r\n\r\n")

    assert response.status < 500


def test_a_client_that_sends_20_mb_can_read_the_413(port: int) -> None:
    megabyte = b"x" * 1_000_000

    response, body = answer(port, b"POST / HTTP/1.1\r\n" + HEAD + b"Content-Length: 20000000\r\n\r\n", *[megabyte] * 20)

    assert (response.status, body) == (413, b"too much")


def test_a_response_is_sent_in_one_piece(port: int) -> None:
    """If a process is killed after sending only the head, a proxy cannot get the response from another one."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        for _ in range(200):
            client.sendall(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
            assert client.recv(65_536).endswith(b"\r\n\r\nok")
