"""The contract over a real gunicorn and sockets. tests/embedded covers what gunicorn answers by itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.support.harness import RealRedis, Tenant
from tests.support.places import assert_error, nothing_left_behind, place_of
from tests.support.wire import Client, Server, chunked, request

MEGABYTE = 1024 * 1024
GOOD = b'{"title": "over http"}'


@pytest.fixture(scope="session")
def server(
    redis_server: RealRedis, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    server = Server(Path(tmp_path_factory.mktemp("gunicorn")) / "log")
    yield server
    server.stop()


@pytest.fixture
def wire(server: Server, ours: Tenant) -> Iterator[Client]:
    """A raw connection."""
    with Client(server.port) as client:
        yield client


def assert_in_step(client: Client, ours: Tenant) -> None:
    """Asserts that the connection's next request gets its own response."""
    answer = client.ask(request("GET", ours.path))
    assert answer.status == 200
    assert answer.json()["token"] == ours.token


def big(size: int) -> bytes:
    bare = json.dumps({"title": "text", "ignored": ""}).encode()
    return bare[:-2] + b"x" * (size - len(bare)) + b'"}'


def test_what_is_posted_over_http_is_read_by_everyone(wire: Client, ours: Tenant) -> None:
    answer = wire.ask(request("POST", f"{ours.path}/chats", GOOD))

    assert answer.status == 201
    assert answer.headers["Location"] == f"http://localhost{ours.path}/chats/1"
    assert ours.get("/chats/1") == answer.json()
    assert wire.ask(request("GET", f"{ours.path}/chats/1")).json() == answer.json()


def test_who_sends_twenty_megabytes_gets_to_read_its_413(wire: Client, ours: Tenant) -> None:
    with nothing_left_behind():
        answer = wire.ask(request("POST", f"{ours.path}/chats", big(20 * MEGABYTE)))

    assert_error(answer, 413, "payload_too_large")


def test_who_sends_twenty_megabytes_in_chunks_gets_to_read_its_413(wire: Client, ours: Tenant) -> None:
    head = request("POST", f"{ours.path}/chats", b"", "Transfer-Encoding: chunked")

    with nothing_left_behind():
        answer = wire.ask(head, chunked(big(20 * MEGABYTE), size=100_000))

    assert_error(answer, 413, "payload_too_large")


def test_four_megabytes_are_accepted_with_a_length_and_in_chunks(wire: Client, ours: Tenant) -> None:
    content = big(4 * MEGABYTE)

    assert wire.ask(request("POST", f"{ours.path}/chats", content)).status == 201
    head = request("POST", f"{ours.path}/chats", b"", "Transfer-Encoding: chunked")
    assert wire.ask(head, chunked(content, 65_536)).status == 201
    assert_error(wire.ask(head, chunked(content + b" ", 65_536)), 413, "payload_too_large")


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_body_in_chunks_is_a_body(wire: Client, ours: Tenant, size: int) -> None:
    head = request("POST", f"{ours.path}/chats", b"", "Transfer-Encoding: chunked")

    answer = wire.ask(head, chunked(GOOD, size))

    assert (answer.status, answer.json()["title"]) == (201, "over http")
    assert_in_step(wire, ours)


@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n{}\r\n0\r\n\r\n",
        b"-2\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}xx0\r\n\r\n",
        b"2;\x01\r\n{}\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\n{}",
    ],
    ids=repr,
)
def test_a_malformed_chunk_is_refused(wire: Client, ours: Tenant, body: bytes) -> None:
    head = request("POST", f"{ours.path}/chats", b"", "Transfer-Encoding: chunked")

    with nothing_left_behind():
        wire.socket.sendall(head + body)
        wire.finish()
        answer = wire.answer()

    assert_error(answer, 400, "parse_error")
    assert answer.headers["Connection"] == "close"
    assert wire.at_end()


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
def test_a_body_that_ends_early_is_refused_even_if_it_looks_whole(wire: Client, ours: Tenant, framing: str) -> None:
    body = GOOD if "Length" in framing else b"%x\r\n%s\r\n" % (len(GOOD), GOOD)

    with nothing_left_behind():
        wire.socket.sendall(request("POST", f"{ours.path}/chats", b"", framing) + body)
        wire.finish()
        answer = wire.answer()

    assert_error(answer, 400, "parse_error")
    assert wire.at_end()


@pytest.mark.parametrize(
    "headers",
    [
        ["Content-Length: 22", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 22"],
        ["Content-Length: 22", "Content-Length: 23"],
        ["Content-Length: -1"],
        ["Content-Length: +22"],
        ["Content-Length: 2 2"],
        ["Content-Length: x"],
        ["Content-Length: ٢"],
        ["Transfer-Encoding: chunked, chunked"],
        ["Transfer-Encoding: gzip"],
        ["Transfer-Encoding: nonsense"],
        ["Transfer-Encoding : chunked"],
        ["Bad Header: x"],
        ["No colon"],
        ["X: a\x00b"],
        ["Idempotency-Key: a\x01b"],
    ],
    ids=lambda headers: " ".join(headers).encode().decode("ascii", "replace"),
)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_the_connection_ends(
    wire: Client, ours: Tenant, headers: list[str]
) -> None:
    lines = [f"POST {ours.path}/chats HTTP/1.1", "Host: localhost", "Content-Type: application/json", *headers, "", ""]

    with nothing_left_behind():
        answer = wire.ask("\r\n".join(lines).encode() + GOOD)

    assert 400 <= answer.status < 500 or answer.status == 501
    assert_error(answer, answer.status, answer.json()["errors"][0]["code"])
    assert wire.at_end()


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1", 414),
        (b"GET /applications?x=" + b"x" * 9000 + b" HTTP/1.1", 414),
        (b"nonsense", 400),
        (b"GET", 400),
        (b"GET /", 400),
        (b"GET / HTTP/9.9", 400),
        (b"G@T / HTTP/1.1", 400),
        (b"\x16\x03\x01\x02\x00", 400),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_a_line_that_is_no_request_is_refused_in_json(wire: Client, line: bytes, status: int) -> None:
    answer = wire.ask(line + b"\r\nHost: localhost\r\n\r\n")

    assert answer.status == status
    assert_error(answer, status, answer.json()["errors"][0]["code"])


def test_a_header_beyond_8_kb_is_refused_in_json(wire: Client, ours: Tenant) -> None:
    answer = wire.ask(request("GET", ours.path, None, f"X-Long: {'x' * 9000}"))

    assert_error(answer, 431, "headers_too_large")


def test_a_line_and_a_header_just_below_8_kb_are_accepted(wire: Client, ours: Tenant) -> None:
    path = f"{ours.path}?x="

    assert wire.ask(request("GET", path + "x" * (8100 - len(path)), None, f"X-Long: {'x' * 8100}")).status == 200


@pytest.mark.parametrize("method", ["NONSENSE", "PROPFIND", "CONNECT", "PATCH", "M-SEARCH"])
def test_a_method_that_nobody_knows_is_refused_in_json(wire: Client, ours: Tenant, method: str) -> None:
    answer = wire.ask(request(method, f"{ours.path}/chats", GOOD))

    assert answer.status in (400, 405)
    assert_error(answer, answer.status, answer.json()["errors"][0]["code"])


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "code"),
    [
        ("POST", "/nowhere", [], 404, "not_found"),
        ("POST", "{ours}/chats/01/messages", [], 404, "not_found"),
        ("PUT", "{ours}/chats", [], 405, "method_not_allowed"),
        ("POST", "{ours}/chats", ["Content-Type: text/plain"], 415, "unsupported_media_type"),
        ("POST", "{ours}/chats", ["Accept: text/html"], 406, "not_acceptable"),
        ("POST", "{ours}/chats", ["Host: evil.example"], 400, None),
    ],
)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_a_connection_stays_in_step_after_a_body_that_nobody_read(
    wire: Client, ours: Tenant, method: str, path: str, headers: list[str], status: int, code: str | None, framing: str
) -> None:
    # A body that would be a valid request if the server parsed it as one.
    body = request("POST", f"{ours.path}/chats", GOOD) * 20
    head = request(method, path.format(ours=ours.path), b"", *headers, "Transfer-Encoding: chunked")
    whole = request(method, path.format(ours=ours.path), body, *headers)

    with nothing_left_behind():
        answer = wire.ask(whole) if framing == "length" else wire.ask(head, chunked(body))
        assert answer.status == status
        if code:
            assert_error(answer, status, code)
            assert_in_step(wire, ours)


@pytest.mark.parametrize("size", [1_000, 70_000, 1_000_000])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/nowhere", [], 404),
        ("PATCH", "/applications/" + "0" * 32, [], 404),
        ("PUT", "{ours}", [], 405),
        ("POST", "{ours}/chats", ["Content-Type: text/plain"], 415),
        ("POST", "{ours}/chats", ["Content-Encoding: gzip"], 415),
        ("POST", "{ours}/chats", ["Accept: text/html"], 406),
        ("POST", "{ours}/chats", ['If-Match: "x"'], 412),
        ("GET", "{ours}", [], 200),
        ("HEAD", "{ours}", [], 200),
        ("GET", "{ours}", ["If-None-Match: *"], 304),
        ("GET", "{ours}", ['If-Match: "x"'], 412),
        ("OPTIONS", "{ours}", [], 200),
        ("GET", "/static/admin/css/base.css", [], 200),
        ("POST", "/static/admin/css/base.css", [], 405),
        ("GET", "/docs", [], 200),
        ("GET", "/admin/", [], 302),
        ("POST", "/admin/login/", [], 403),
        ("GET", "/metrics", [], 200),
    ],
)
def test_a_connection_is_kept_whatever_was_not_read(
    wire: Client, ours: Tenant, method: str, path: str, headers: list[str], status: int, framing: str, size: int
) -> None:
    path, body = path.format(ours=ours.path), b" " * size

    if framing == "length":
        answer = wire.ask(request(method, path, body, *headers), method=method)
    else:
        head = request(method, path, b"", "Transfer-Encoding: chunked", *headers)
        answer = wire.ask(head, chunked(body, 65_536), method=method)

    assert (answer.status, answer.headers["Connection"]) == (status, "keep-alive")
    assert_in_step(wire, ours)


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("size", [4 * MEGABYTE + 1, 4 * MEGABYTE + 1000, 5 * MEGABYTE])
def test_a_connection_ends_after_a_413_and_the_answer_says_so(
    wire: Client, ours: Tenant, size: int, framing: str
) -> None:
    if framing == "length":
        answer = wire.ask(request("POST", f"{ours.path}/chats", big(size)))
    else:
        head = request("POST", f"{ours.path}/chats", b"", "Transfer-Encoding: chunked")
        answer = wire.ask(head, chunked(big(size), 65_536))

    assert_error(answer, 413, "payload_too_large")
    assert answer.headers["Connection"] == "close"
    assert wire.at_end()


def test_who_asks_before_sending_too_much_is_told_so_at_once(wire: Client, ours: Tenant) -> None:
    headers = ["Expect: 100-continue", f"Content-Length: {4 * MEGABYTE + 1}"]

    assert_error(wire.ask(request("POST", f"{ours.path}/chats", b"", *headers)), 413, "payload_too_large")


def test_head_and_304_leave_the_connection_in_step(wire: Client, ours: Tenant) -> None:
    got = wire.ask(request("GET", ours.path))

    head = wire.ask(request("HEAD", ours.path), method="HEAD")
    assert (head.status, head.content) == (200, b"")
    assert head.headers["Content-Length"] == str(len(got.content))
    assert head.headers["ETag"] == got.headers["ETag"]
    assert_in_step(wire, ours)

    again = wire.ask(request("GET", ours.path, None, f"If-None-Match: {got.headers['ETag']}"))
    assert (again.status, again.content) == (304, b"")
    assert_in_step(wire, ours)


def test_requests_sent_ahead_are_answered_in_their_order(wire: Client, ours: Tenant) -> None:
    titles = [str(i) for i in range(10)]
    wire.socket.sendall(
        b"".join(request("POST", f"{ours.path}/chats", json.dumps({"title": t}).encode()) for t in titles)
    )

    answers = [wire.answer().json() for _ in titles]

    assert [answer["title"] for answer in answers] == titles
    assert [answer["number"] for answer in answers] == list(range(1, 11))


def test_who_asks_before_sending_is_told_to_go_on(wire: Client, ours: Tenant) -> None:
    whole = request("POST", f"{ours.path}/chats", GOOD, "Expect: 100-continue")
    wire.socket.sendall(whole[: -len(GOOD)])
    assert wire.socket.recv(100).startswith(b"HTTP/1.1 100 ")

    assert wire.ask(GOOD).status == 201


@pytest.mark.parametrize("charset", ["utf-16", "zlib", "nonsense", "idna", "cp037", '"utf-16"'])
def test_a_content_type_does_not_change_how_a_query_is_read(wire: Client, ours: Tenant, charset: str) -> None:
    ours.chat()
    ours.chat()
    header = f"Content-Type: application/json; charset={charset}"

    answer = wire.ask(request("GET", f"{ours.path}/chats?limit=1", None, header))

    assert (answer.status, len(answer.json()["results"])) == (200, 1)
    assert_error(wire.ask(request("GET", f"{ours.path}/chats?limit=abc", None, header)), 400, "invalid", "limit")


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=zlib",
        "application/json; a*=nonsense''x",
        "application/json; charset*=zlib''x",
        "text/plain",
    ],
)
def test_a_content_type_that_django_cannot_read_is_a_415(wire: Client, ours: Tenant, content_type: str) -> None:
    with nothing_left_behind():
        answer = wire.ask(request("POST", f"{ours.path}/chats?x=y", GOOD, f"Content-Type: {content_type}"))

    assert_error(answer, 415, "unsupported_media_type")
    assert_in_step(wire, ours)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"title":' * 100_000], ids=["arrays", "objects"])
def test_a_server_survives_deep_json(wire: Client, ours: Tenant, content: bytes) -> None:
    for _ in range(3):
        assert_error(wire.ask(request("POST", f"{ours.path}/chats", content)), 400, "parse_error")
    assert_in_step(wire, ours)


@pytest.mark.parametrize("key", ["é", "schlüssel", "\x80"], ids=ascii)
def test_a_key_of_other_bytes_than_ascii_is_refused_by_name(wire: Client, ours: Tenant, key: str) -> None:
    for encoding in ("latin-1", "utf-8"):
        headers = f"Idempotency-Key: {key}".encode(encoding).decode("latin-1")
        answer = wire.ask(request("POST", f"{ours.path}/chats", GOOD, headers))
        assert_error(answer, 400, "invalid", "Idempotency-Key")


@pytest.mark.parametrize(
    "path",
    [
        "/%00",
        "/%0a",
        "/applications/%2e%2e",
        "//",
        "/é",
        "/%ff",
        "/applications/{ours}%0a",
        "*",
        "/a b",
    ],
    ids=ascii,
)
def test_a_strange_path_is_a_4xx_in_json(wire: Client, ours: Tenant, path: str) -> None:
    answer = wire.ask(f"GET {path.format(ours=ours.token)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())

    assert answer.status in (400, 404)
    assert_error(answer, answer.status, answer.json()["errors"][0]["code"])


@pytest.mark.parametrize("query", ["Élan", "日本語", "ﬃ", "🎈"])
def test_a_path_in_raw_utf_8_is_the_same_as_one_that_is_escaped(wire: Client, ours: Tenant, query: str) -> None:
    # curl sends the path unchanged.
    raw = f"GET /search/{query}?limit=7&application={ours.token} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    answer = wire.ask(raw)

    assert answer.status == 200
    assert answer.content == wire.ask(request("GET", f"/search/{quote(query)}?application={ours.token}")).content
    # The query string and the next request are parsed as usual.
    assert wire.ask(raw.replace(b"limit=7", "limit=ü".encode())).json()["errors"][0]["attr"] == "limit"
    assert_in_step(wire, ours)


def test_a_write_over_http_and_one_beside_it_share_one_run_of_numbers(wire: Client, ours: Tenant) -> None:
    place = place_of("chat", ours)
    numbers = []
    for _ in range(5):
        numbers.append(place.create()["number"])
        numbers.append(wire.ask(request("POST", place.path, GOOD)).json()["number"])

    assert numbers == list(range(1, 11))


def test_the_servers_log_holds_no_token_and_no_traceback(server: Server, ours: Tenant) -> None:
    with Client(server.port) as client:
        client.ask(request("POST", f"{ours.path}/chats", b"{"))
        client.ask(request("GET", f"{ours.path}/chats/7"))
        client.ask(request("PUT", f"{ours.path}/chats/7", GOOD))
    with Client(server.port) as client:
        client.ask(b"GET " + ours.path.encode() + b"/" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n")

    log = server.log.read_text()
    assert ours.token not in log
    assert "Traceback" not in log
