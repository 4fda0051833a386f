"""Exactly once over HTTP, when responses are lost or processes are killed between a request and its response."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from django.conf import settings

from chatsystem.writelog import ownership, stream
from chatsystem.writelog.keys import PARTITIONS, partition_of
from tests.support.harness import RealRedis, Tenant, drain_all, in_threads
from tests.support.lossy import LossyProxy
from tests.support.places import KINDS, Place, assert_error, place_of
from tests.support.product import eventually, kill
from tests.support.wire import Answer, Client, Server, request

KEY = "Idempotency-Key: the key"
#: An application in the partition that the key's application will be in.
NEIGHBOUR = next(f"neighbour {i}" for i in count() if partition_of(f"key neighbour {i}") == partition_of("key the key"))
#: The header by which a proxy repeats a request that has no key.
PROXY = "Proxy-Request-Id: 5f0c"


class Post:
    """One POST of an application, chat, message or batch, as the bytes that every repetition sends."""

    def __init__(self, place: Place, batch: bool) -> None:
        self.place = place
        one = {place.kind.field: "text"}
        self.content = json.dumps([one, one, one] if batch else one).encode()
        self.size = 3 if batch else 1
        # Seeds the numbers first. Otherwise the first reply of Redis would be 'seed'.
        place.create("before", **{"Idempotency-Key": NEIGHBOUR})
        drain_all()

    def bytes(self, *headers: str) -> bytes:
        return request("POST", self.place.path, self.content, *headers)

    def assert_written_once(self, drained: Callable) -> None:
        """Asserts one event for each row, then the rows."""
        assert events() == self.size
        drained()
        rows = self.place.api.get(self.place.path, {"limit": 1000}).json()["results"]
        assert [row[self.place.kind.field] for row in rows].count("text") == self.size


@pytest.fixture(autouse=True)
def owned(state: object, transactional_db: None) -> None:
    """Seeds everything, so that the first script that a server runs accepts a write."""
    ownership.keep(range(PARTITIONS))


@pytest.fixture(scope="module")
def proxy(redis_server: RealRedis) -> Iterator[LossyProxy]:
    proxy = LossyProxy(settings.DATA_DIR.redis_socket)
    yield proxy
    proxy.close()


@pytest.fixture(scope="module")
def server(proxy: LossyProxy, django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gunicorn behind a proxy that can drop the replies of the state Redis."""
    elsewhere = f"unix://{settings.DATA_DIR.redis_socket}?db=1"
    log_file = Path(tmp_path_factory.mktemp("gunicorn")) / "log"
    server = Server(log_file, REDIS_TIMEOUT="1", REDIS_URL=proxy.url, CACHE_URL=elsewhere, CELERY_BROKER_URL=elsewhere)
    yield server
    server.stop()


@pytest.fixture
def running(redis_server: RealRedis) -> Iterator[RealRedis]:
    """The state Redis, which is restarted at the end of the test."""
    yield redis_server
    if redis_server.process.poll() is not None:
        redis_server.start()


@pytest.fixture(params=[*KINDS, "batch"])
def post(request: pytest.FixtureRequest, ours: Tenant) -> Post:
    return Post(place_of("message" if request.param == "batch" else request.param, ours), request.param == "batch")


def events() -> int:
    return sum(stream.lengths().values())


def ask(server: Server, content: bytes) -> Answer:
    with Client(server.port) as client:
        return client.ask(content)


def assert_replayed(answer: Answer, first: Answer) -> None:
    assert (answer.status, answer.content) == (201, first.content)
    assert answer.headers["Location"] == first.headers["Location"]
    assert answer.headers["Idempotent-Replayed"] == "true"


def test_twenty_connections_with_one_key_make_one_row_and_get_one_answer(
    server: Server, post: Post, drained: Callable
) -> None:
    answers: list[Answer] = []

    in_threads(lambda _: answers.append(ask(server, post.bytes(KEY))), range(20))

    assert {answer.status for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len({answer.headers["Location"] for answer in answers}) == 1
    assert sum("Idempotent-Replayed" not in answer.headers for answer in answers) == 1
    post.assert_written_once(drained)


def test_a_client_that_lost_its_answer_gets_it_by_the_same_key(server: Server, post: Post, drained: Callable) -> None:
    # Given a client whose connection broke between its request and the response,
    with Client(server.port) as client:
        client.socket.sendall(post.bytes(KEY))
    eventually(lambda: events() > 0)

    # when it repeats the request, then it gets the response to its first write.
    again, once_more = ask(server, post.bytes(KEY)), ask(server, post.bytes(KEY))
    assert again.status == 201
    assert_replayed(again, once_more)
    post.assert_written_once(drained)


def test_a_web_process_killed_between_the_write_and_its_answer_is_one_write(
    server: Server, proxy: LossyProxy, post: Post, drained: Callable
) -> None:
    # Given a request on its way to Redis,
    workers = server.workers()
    with proxy.holding(), Client(server.port) as client:
        client.socket.sendall(post.bytes(KEY))
        eventually(lambda: proxy.held > 0)

        # when all web processes are killed before Redis accepts it,
        for worker in workers:
            kill(worker)
        assert client.at_end()
    eventually(lambda: events() > 0)
    eventually(lambda: len(server.workers() - workers) == len(workers))

    # then a repetition gets the response to that write.
    again = ask(server, post.bytes(KEY))
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    post.assert_written_once(drained)


@pytest.mark.parametrize("headers", [[KEY], [PROXY], []], ids=["key", "proxy", "neither"])
def test_an_answer_of_redis_that_is_lost_once_or_twice_is_not_noticed(
    server: Server, proxy: LossyProxy, post: Post, headers: list[str], drained: Callable
) -> None:
    proxy.lose(2)

    answer = ask(server, post.bytes(*headers))

    assert proxy.lost == 2
    assert answer.status == 201
    post.assert_written_once(drained)


def test_a_change_whose_answer_of_redis_is_lost_is_one_change(
    server: Server, proxy: LossyProxy, place: Place, drained: Callable
) -> None:
    created = place.create("as created")
    drained()
    proxy.lose(2)

    answer = ask(server, request("PATCH", place.item(created), json.dumps({place.kind.field: "changed"}).encode()))

    assert proxy.lost == 2
    assert (answer.status, answer.json()[place.kind.field]) == (200, "changed")
    assert events() == 1
    assert place.read(created) == answer.json()


def test_a_write_that_redis_never_answers_is_a_503_of_its_own_and_its_key_tells_what_became_of_it(
    server: Server, proxy: LossyProxy, post: Post, running: RealRedis, drained: Callable
) -> None:
    # Given a write for which all replies of Redis are lost,
    proxy.lose(3)
    answer = ask(server, post.bytes(KEY))

    # then the response is outcome_unknown,
    assert proxy.lost == 3
    assert_error(answer, 503, "outcome_unknown")
    assert int(answer.headers["Retry-After"]) > 0

    # and its key finds the write, even after Redis was killed, because the receipt is on disk.
    running.restart()
    again = ask(server, post.bytes(KEY))
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    post.assert_written_once(drained)


def test_a_write_that_redis_accepts_after_its_client_was_answered_is_a_503_of_its_own(
    server: Server, proxy: LossyProxy, post: Post, drained: Callable
) -> None:
    with proxy.holding():
        answer = ask(server, post.bytes(KEY))
        assert proxy.held == 3
        assert events() == 0

    # service_unavailable would have been wrong: the write was accepted.
    assert_error(answer, 503, "outcome_unknown")
    eventually(lambda: events() > 0)
    again = ask(server, post.bytes(KEY))
    assert (again.status, again.headers["Idempotent-Replayed"]) == (201, "true")
    post.assert_written_once(drained)


def test_what_a_proxy_sends_twice_is_one_write_and_its_client_does_not_notice(
    server: Server, post: Post, drained: Callable
) -> None:
    first, second = ask(server, post.bytes(PROXY)), ask(server, post.bytes(PROXY))

    assert (second.status, second.content) == (first.status, first.content)
    assert first.status == 201
    assert "Idempotent-Replayed" not in second.headers
    post.assert_written_once(drained)


def test_a_change_that_a_proxy_sends_twice_is_one_change(server: Server, place: Place, drained: Callable) -> None:
    created = place.create("as created")
    drained()
    change = request("PATCH", place.item(created), json.dumps({place.kind.field: "changed"}).encode(), PROXY)

    first, second = ask(server, change), ask(server, change)

    assert (second.status, second.content) == (first.status, first.content)
    assert first.status == 200
    assert events() == 1
