"""Clients that write, read their writes, and log the answers, and subscribers. Documented in docs/reliability.md."""

from __future__ import annotations

import json
import random
import threading
import time
import traceback
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Any

import requests

from tests.faults.record import folder_of_subscribers
from tests.faults.subscribers import Subscribers
from tests.support.product import eventually

#: Seconds for which a client repeats an unanswered request.
PATIENCE = 600.0


class AckLog:
    """The log of requests and answers, one JSON line each, written before the next request is sent."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file: IO[str] = path.open("w")
        self.lock = threading.Lock()
        self.seen: Counter[str] = Counter()
        #: The requests that got a 5xx or no answer. A test that expects none prints them.
        self.failures: list[str] = []
        #: The newest acknowledged last_request_time among the children of each path.
        self.newest: dict[str, str] = {}

    def write(self, kind: str, **entry: Any) -> None:
        with self.lock:
            self.seen[kind] += 1
            self.file.write(json.dumps({"kind": kind, **entry}) + "\n")
            self.file.flush()

    def acknowledged(self, path: str, text: str, answer: dict[str, Any], *, created: bool) -> None:
        at = answer["last_request_time"]
        self.write("ack", path=path, text=text, at=at, created=created)
        parent = path.rpartition("/")[0]
        self.newest[parent] = max(at, self.newest.get(parent, ""))

    def failed(self, method: str, url: str, answer: str) -> None:
        self.failures.append(f"{time.strftime('%X')} {method} {url}: {answer}")

    def violation(self, invariant: int, what: str) -> None:
        self.write("violation", invariant=invariant, what=what)


class Load:
    """Threads that write to two applications until they are stopped. The seed determines their choices.

    With `reads`, they read their writes from another host. They wait `timeout` seconds for each answer. The
    `subscribers` follow what is written. A client pauses for `pause` seconds, on average, after each write.
    """

    def __init__(
        self,
        base: str,
        log: AckLog,
        clients: int,
        seed: int,
        reads: str | None = None,
        timeout: float = 20.0,
        subscribers: int = 0,
        pause: float = 0.0,
    ) -> None:
        self.base, self.log, self.seed, self.reads, self.timeout = base, log, seed, reads, timeout
        self.pause = pause
        self.stopping, self.going = threading.Event(), threading.Event()
        self.going.set()
        self.failures: list[BaseException] = []
        # A run that has failed ends, though a client may still repeat its request.
        self.threads = [threading.Thread(target=self._run, args=(client,), daemon=True) for client in range(clients)]
        #: Each client holds its own lock during a request.
        self.turns = [threading.Lock() for _ in self.threads]
        self.followers = subscribers
        self.subscribers: Subscribers | None = None

    def start(self) -> None:
        setup = Client(self.base, self.log, self.timeout)
        # Two applications have chats of the same numbers, so that a leak between them is visible.
        applications = [setup.create_application(name) for name in ("ours", "theirs")]
        self.chats = [(token, setup.create_chat(token)) for token in applications for _ in range(3)]
        if self.followers:
            folder = folder_of_subscribers(self.log.path)
            self.subscribers = Subscribers(self.base, folder, self.chats, self.followers, self.seed)
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self.threads:
            thread.join()
        try:
            if self.subscribers:
                self._finish(self.subscribers)
        finally:
            self.log.file.close()
        for failure in self.failures:
            raise failure

    def _finish(self, subscribers: Subscribers) -> None:
        """Writes a last message to each chat, and waits until the subscribers were shown it."""
        try:
            client = Client(self.base, self.log, self.timeout)
            for token, chat in self.chats:
                client.create_messages(token, chat, 1)
            subscribers.finish({chat: self.log.newest[chat] for _, chat in self.chats})
        finally:
            subscribers.kill()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Pauses all clients between two requests."""
        self.going.clear()
        with ExitStack() as turns:
            turns.callback(self.going.set)
            for turn in self.turns:
                turns.enter_context(turn)
            yield

    def _run(self, number: int) -> None:
        try:
            client = Client(self.base, self.log, self.timeout, self.reads)
            self._write(client, random.Random(f"{self.seed} {number}"), self.turns[number])
        except BaseException as failure:
            # Printed too: a test that waits for acknowledgements fails before it calls `stop`.
            traceback.print_exc()
            self.failures.append(failure)

    def _write(self, client: Client, chance: random.Random, turn: threading.Lock) -> None:
        # A client only updates what it created, so that it knows which text is the last.
        own: list[str] = []
        while not self.stopping.wait(chance.uniform(0, 2 * self.pause)):
            self.going.wait()
            with turn:
                token, chat = chance.choice(self.chats)
                match chance.choices(("message", "batch", "update", "chat"), (45, 25, 25, 5))[0]:
                    case "update" if own:
                        client.update(chance.choice(own))
                    case "batch":
                        own += client.create_messages(token, chat, chance.randint(2, 40))
                    case "chat":
                        own.append(client.create_chat(token))
                    case _:
                        own += client.create_messages(token, chat, 1)


class Client:
    """Repeats a request with the same key until it is answered, logs the answer, and reads the write at once."""

    def __init__(self, base: str, log: AckLog, timeout: float = 20.0, reads: str | None = None) -> None:
        self.base, self.log, self.timeout = base, log, timeout
        self.reads = reads or base
        self.session = requests.Session()
        # Else each request reads all of os.environ, which pytest changes between two tests while clients write.
        self.session.trust_env = False

    def create_application(self, name: str) -> str:
        text = f"{name} {uuid.uuid4()}"
        answer = self._answered("POST", "/applications", {"name": text})
        self.log.acknowledged(answer["token"], text, answer, created=True)
        return answer["token"]

    def create_chat(self, token: str) -> str:
        text = f"{token} {uuid.uuid4()}"
        answer = self._answered("POST", f"/applications/{token}/chats", {"title": text})
        path = f"{token}/{answer['number']}"
        self.log.acknowledged(path, text, answer, created=True)
        self._expect(path, answer["last_request_time"])
        return path

    def create_messages(self, token: str, chat: str, count: int) -> list[str]:
        """Returns a text that names its application, so that a leak into another is visible."""
        texts = [f"{token} {uuid.uuid4()}" for _ in range(count)]
        bodies = [{"body": text} for text in texts]
        answer = self._answered("POST", f"{_url(chat)}/messages", bodies if count > 1 else bodies[0])
        answers = answer if count > 1 else [answer]
        paths = [f"{chat}/{one['number']}" for one in answers]
        for path, text, one in zip(paths, texts, answers, strict=True):
            self.log.acknowledged(path, text, one, created=True)
        self._expect(paths[-1], answers[-1]["last_request_time"])
        return paths

    def update(self, path: str) -> None:
        text = f"{path.partition('/')[0]} {uuid.uuid4()}"
        field = "body" if path.count("/") == 2 else "title"
        answer = self._answered("PATCH", _url(path), {field: text})
        self.log.acknowledged(path, text, answer, created=False)
        self._expect(path, answer["last_request_time"])

    def messages_count(self, chat: str) -> int:
        """Returns the number of stored rows, or 0 while it is unknown."""
        response = self._try("GET", _url(chat))
        return response.json()["messages_count"] if response is not None and response.ok else 0

    def finds(self, path: str) -> bool:
        """Returns whether a search for its text finds the message."""
        message = self._try("GET", _url(path))
        if message is None or not message.ok:
            return False
        token, body = path.partition("/")[0], message.json()["body"]
        response = self._try("GET", f"/search/{body}?application={token}&limit=1")
        return response is not None and response.ok and response.json()["count"] > 0

    def searches(self, path: str) -> bool:
        """Returns whether a search in the message's application is answered."""
        response = self._try("GET", f"/search/any?application={path.partition('/')[0]}&limit=1")
        return response is not None and response.ok

    def follows(self, chat: str) -> bool:
        """Returns whether a poll of the chat's events is answered."""
        headers = {"Accept": "application/json"}
        response = self._try("GET", f"{_url(chat)}/events?wait=0", headers=headers)
        return response is not None and response.ok

    def _answered(self, method: str, url: str, data: Any) -> Any:
        headers = {"Idempotency-Key": str(uuid.uuid4())} if method == "POST" else {}
        texts = [next(iter(one.values())) for one in (data if isinstance(data, list) else [data])]
        self.log.write("sent", texts=texts)
        deadline = time.monotonic() + PATIENCE
        while True:
            response = self._try(method, url, data, headers)
            if response is not None and response.status_code < 300:
                return response.json()
            if response is not None and response.status_code < 500:
                raise AssertionError(f"{method} {url}: {response.status_code} {response.text}")
            self.log.write("unsure", texts=texts)
            if time.monotonic() > deadline:
                raise AssertionError(f"{method} {url} was not answered for {PATIENCE} s")
            time.sleep(0.05)

    def _try(self, method: str, url: str, data: Any = None, headers: dict[str, str] | None = None) -> Any:
        """Returns the answer, or None without one. Asserts that each 5xx is a 503 with Retry-After."""
        base = self.reads if method == "GET" else self.base
        try:
            response = self.session.request(method, base + url, json=data, headers=headers, timeout=self.timeout)
        except requests.RequestException as error:
            self.log.write("unanswered")
            self.log.failed(method, url, repr(error))
            return None
        if response.status_code >= 500:
            self.log.write(f"refused {method}")
            self.log.failed(method, url, f"{response.status_code} {response.text[:200]}")
            if response.status_code != 503 or "Retry-After" not in response.headers:
                self.log.violation(9, f"{method} {url}: {response.status_code} {response.text[:200]}")
        return response

    def _expect(self, path: str, at: str) -> None:
        """Checks invariant 8: after an acknowledgement, a read shows that write or a later one, or answers 503."""
        response = self._try("GET", _url(path))
        if response is None or response.status_code == 503:
            return
        if response.status_code != 200 or response.json()["last_request_time"] < at:
            self.log.violation(8, f"GET {path} after {at}: {response.status_code} {response.text[:200]}")


def more_acknowledgements(log: AckLog, number: int) -> None:
    """Waits for the clients."""
    before = log.seen["ack"]
    eventually(lambda: log.seen["ack"] >= before + number)


def _url(path: str) -> str:
    parts = zip(("applications", "chats", "messages"), path.split("/"), strict=False)
    return "".join(f"/{name}/{part}" for name, part in parts)
