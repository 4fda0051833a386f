"""nginx has the API's limits, and answers its own errors in the API's error shape."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from django.conf import settings

from chatsystem.api.errors import NoAnswer, PayloadTooLarge
from chatsystem.logs.request_id import SANE
from chatsystem.server import gunicorn
from chatsystem.server.responses import CLIENT_ERRORS
from tests.deploy.proxy import CONFIG, DEPLOY, ERRORS, ensure_nginx, nginx
from tests.server.test_worker import answer
from tests.support.ports import free_port

PAGES = {int(status): json.loads(page) for status, page in re.findall(r"return (\d+) '(.*)';", ERRORS)}
HOST = b"Host: localhost\r\n"


@pytest.mark.parametrize("status", PAGES)
def test_an_error_page_has_the_apis_shape(status: int) -> None:
    page = PAGES[status]

    assert page["type"] == ("server_error" if status >= 500 else "client_error")
    assert [(error.keys(), error["attr"]) for error in page["errors"]] == [({"code", "detail", "attr"}, None)]


def test_nginx_and_gunicorn_answer_the_same_errors() -> None:
    ours = {each.status: (each.code, each.detail) for _, each in CLIENT_ERRORS}
    ours[413] = (PayloadTooLarge.default_code, PayloadTooLarge.default_detail)
    pages = {status: (page["errors"][0]["code"], page["errors"][0]["detail"]) for status, page in PAGES.items()}

    assert {status: pages[status] for status in (400, 413, 414, 431)} == {
        status: ours[status] for status in (400, 413, 414, 431)
    }
    assert pages[503] == (NoAnswer.default_code, NoAnswer.default_detail)


def test_its_limits_are_not_below_the_apis() -> None:
    [body] = re.findall(r"client_max_body_size (\d+)m;", CONFIG)
    [line] = re.findall(r"large_client_header_buffers \d+ (\d+)k;", CONFIG)

    assert int(body) * 2**20 == settings.MAX_REQUEST_BYTES
    assert int(line) * 2**10 > max(gunicorn.limit_request_line, gunicorn.limit_request_field_size)


def test_no_log_holds_a_path() -> None:
    [log_format] = re.findall(r"log_format pathless '(.*)';", CONFIG)

    assert not re.search(r"\$(request|uri|request_uri|args|http_referer)\b", log_format)
    assert "error_log stderr crit;" in CONFIG


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """nginx without a server behind it."""
    ensure_nginx()
    with nginx(tmp_path_factory.mktemp("nginx"), web=f"127.0.0.1:{free_port()}") as port:
        yield port


def test_the_configuration_is_valid(tmp_path: Path) -> None:
    ensure_nginx()
    run = subprocess.run(
        ["nginx", "-t", "-p", f"{tmp_path}/", "-c", DEPLOY / "nginx.conf"], capture_output=True, text=True
    )

    assert run.returncode == 0, run.stderr
    assert "[warn]" not in run.stderr


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"g\x00t / HTTP/1.1\r\n" + HOST + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"TRACE / HTTP/1.1\r\n" + HOST + b"\r\n", 405),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4194305\r\n\r\n", 413),
        (b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414),
        (b"GET / HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 20_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: gzip\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + HOST + b"\r\n", 503),
        (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 4194304\r\n\r\n" + b"x" * 4_194_304, 503),
    ],
    ids=lambda value: str(value)[:40],
)
def test_its_own_errors_are_json(port: int, request_bytes: bytes, status: int) -> None:
    response, body = answer(port, request_bytes)

    assert response.status == status
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(body) == PAGES[status]
    assert ("Retry-After" in response.headers) == (status == 503)


class Echo(BaseHTTPRequestHandler):
    """Answers with the request's id."""

    def do_GET(self) -> None:
        body = self.headers.get("X-Request-ID", "none").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def echoed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[bytes], str]]:
    """Sends a request with these headers, and returns the id that arrives behind nginx."""
    ensure_nginx()
    with HTTPServer(("127.0.0.1", 0), Echo) as web:
        threading.Thread(target=web.serve_forever, daemon=True).start()
        with nginx(tmp_path_factory.mktemp("echo"), web=f"127.0.0.1:{web.server_port}") as port:
            yield lambda headers: answer(port, b"GET / HTTP/1.1\r\n" + HOST + headers + b"\r\n")[1].decode()
        web.shutdown()


@pytest.mark.parametrize("sane", ["1", "a" * 128, "Web!#$%&'*+-.^_`|~9"])
def test_a_clients_request_id_is_passed_on(echoed: Callable[[bytes], str], sane: str) -> None:
    assert SANE.fullmatch(sane)

    assert echoed(f"X-Request-ID: {sane}\r\n".encode()) == sane


@pytest.mark.parametrize(
    "header", [b"", b"X-Request-ID: \r\n", b"X-Request-ID: a b\r\n", b"X-Request-ID: " + b"a" * 129 + b"\r\n"]
)
def test_a_missing_or_malformed_request_id_is_replaced(echoed: Callable[[bytes], str], header: bytes) -> None:
    first, second = echoed(header), echoed(header)

    assert re.fullmatch("[0-9a-f]{32}", first)
    assert first != second
