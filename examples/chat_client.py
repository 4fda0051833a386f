"""A client of the chat API in one file, of the standard library alone: copy it into your project.

    from chat_client import ChatClient

    chat = ChatClient("https://chat.example.com", admin_key="…")
    app = chat.create_application("My app")
    support = chat.create_chat(app.token, "Support")
    chat.create_message(app.token, support.number, "Hello")
    for message in chat.messages(app.token, support.number):
        print(message.number, message.body)

A request is repeated until it is answered, for `patience` seconds at most: after a 503, after a 429, and when the
connection breaks. Each POST bears an Idempotency-Key, the same in every try, so it is one write however often it is
sent; a PATCH is sent again as it is. Between tries it waits for what Retry-After says, else ever longer. Every other
refusal is an `ApiError` at once.

One client may be used by many threads; each has its own connection, kept alive.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urlencode, urlsplit

#: Answers after which the same request may succeed: too many requests, and what a server or a proxy says of 'not now'.
PASSING = (429, 502, 503, 504)

#: Seconds between two tries of which the server says nothing: doubled each time, up to the second.
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 5.0


class ChatError(Exception):
    """What goes wrong between this client and the API."""


class ApiError(ChatError):
    """The API refused the request. `code` is stable, `detail` is for people, `attr` names the wrong field, if any."""

    def __init__(self, status: int, code: str, detail: str, attr: str | None = None) -> None:
        super().__init__(f"{status} {code}: {detail}" + (f" ({attr})" if attr else ""))
        self.status, self.code, self.detail, self.attr = status, code, detail, attr


class Unanswered(ChatError):
    """No answer came in time, or only such as ask for patience. A write may have been accepted: the same key tells."""


@dataclass(frozen=True)
class Application:
    token: str
    name: str
    chats_count: int
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True)
class Chat:
    number: int
    title: str
    messages_count: int
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True)
class Message:
    number: int
    body: str
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True)
class Hit:
    """A message that a search found. `highlight` is HTML: its body escaped, with <em> around what matches."""

    application_token: str
    chat_number: int
    number: int
    body: str
    highlight: str
    created_at: datetime
    last_request_time: datetime


T = TypeVar("T", Application, Chat, Message, Hit)


class ChatClient:
    def __init__(
        self, base: str, *, admin_key: str | None = None, patience: float = 60.0, timeout: float = 30.0
    ) -> None:
        """`admin_key` is for what crosses applications, where the server has one. `timeout` is that of one try."""
        self.patience = patience
        self._admin_key = admin_key
        self._transport = _Transport(base.rstrip("/"), timeout)

    # Applications

    def create_application(self, name: str, *, key: str | None = None) -> Application:
        """`key`, here and below, is an Idempotency-Key of your own, for a request that has to outlive your process."""
        return _of(Application, self._post("/applications", {"name": name}, key, admin=True))

    def applications(self) -> Iterator[Application]:
        """All that are stored, newest last, read page by page as you go."""
        return self._pages(Application, "/applications", {}, admin=True)

    def application(self, token: str) -> Application:
        return _of(Application, self._get(f"/applications/{token}"))

    def rename_application(self, token: str, name: str) -> Application:
        return _of(Application, self._patch(f"/applications/{token}", {"name": name}))

    # Chats

    def create_chat(self, token: str, title: str, *, key: str | None = None) -> Chat:
        return _of(Chat, self._post(f"/applications/{token}/chats", {"title": title}, key))

    def chats(self, token: str, *, newest_first: bool = False, after: int | None = None) -> Iterator[Chat]:
        """Those with numbers above `after`, read page by page as you go."""
        return self._pages(Chat, f"/applications/{token}/chats", _listed(newest_first, after))

    def chat(self, token: str, number: int) -> Chat:
        return _of(Chat, self._get(f"/applications/{token}/chats/{number}"))

    def rename_chat(self, token: str, number: int, title: str) -> Chat:
        return _of(Chat, self._patch(f"/applications/{token}/chats/{number}", {"title": title}))

    # Messages

    def create_message(self, token: str, chat: int, body: str, *, key: str | None = None) -> Message:
        return _of(Message, self._post(_messages(token, chat), {"body": body}, key))

    def create_messages(self, token: str, chat: int, bodies: Sequence[str], *, key: str | None = None) -> list[Message]:
        """1 to 1000 at once, under one run of numbers: all of them, or an `ApiError` and none."""
        created = self._post(_messages(token, chat), [{"body": body} for body in bodies], key)
        return [_of(Message, message) for message in created]

    def messages(
        self, token: str, chat: int, *, newest_first: bool = False, after: int | None = None
    ) -> Iterator[Message]:
        """Those with numbers above `after`, read page by page as you go."""
        return self._pages(Message, _messages(token, chat), _listed(newest_first, after))

    def message(self, token: str, chat: int, number: int) -> Message:
        return _of(Message, self._get(f"{_messages(token, chat)}/{number}"))

    def change_message(self, token: str, chat: int, number: int, body: str) -> Message:
        return _of(Message, self._patch(f"{_messages(token, chat)}/{number}", {"body": body}))

    # Search

    def search(self, query: str, *, application: str | None = None, chat: int | None = None) -> Iterator[Hit]:
        """Messages with words that begin with those of `query`, best first; without `application`, those of all."""
        where = {"application": application, "chat": chat}
        params = {name: value for name, value in where.items() if value is not None}
        return self._pages(Hit, f"/search/{quote(query, safe='')}", params, admin=application is None)

    # How a request is made

    def _get(self, path: str, *, admin: bool = False) -> Any:
        return self._call("GET", path, None, {}, admin)

    def _patch(self, path: str, data: Any) -> Any:
        return self._call("PATCH", path, data, {}, admin=False)

    def _post(self, path: str, data: Any, key: str | None, *, admin: bool = False) -> Any:
        return self._call("POST", path, data, {"Idempotency-Key": key or str(uuid.uuid4())}, admin)

    def _pages(self, kind: type[T], path: str, params: dict[str, Any], *, admin: bool = False) -> Iterator[T]:
        following = f"{path}?{urlencode({'limit': 1000, **params})}"
        while following:
            page = self._get(following, admin=admin)
            yield from (_of(kind, entity) for entity in page["results"])
            # A link is on the host that the server sees, which behind a proxy may be another one than ours.
            following = f"{path}?{urlsplit(page['next']).query}" if page["next"] else ""

    def _call(self, method: str, path: str, data: Any, headers: dict[str, str], admin: bool) -> Any:
        if data is not None:
            headers |= {"Content-Type": "application/json"}
        if admin and self._admin_key:
            headers |= {"Authorization": f"Bearer {self._admin_key}"}
        body = None if data is None else json.dumps(data).encode()
        deadline = time.monotonic() + self.patience
        wait = SHORTEST_WAIT
        while True:
            answer = self._transport.ask(method, path, body, headers)
            if answer.status // 100 == 2:
                return json.loads(answer.content)
            if answer.status and answer.status not in PASSING:
                raise _refusal(answer)
            # Up to half as long again: clients that were refused together do not come back together.
            pause = answer.retry_after or wait * random.uniform(1, 1.5)
            if time.monotonic() + pause > deadline:
                raise Unanswered(f"{method}: {answer} after {self.patience:g} s of tries")
            time.sleep(pause)
            wait = min(wait * 2, LONGEST_WAIT)


@dataclass(frozen=True)
class _Answer:
    """`status` is 0 when none came, and `content` tells why."""

    status: int
    content: bytes
    retry_after: float = 0.0

    def __str__(self) -> str:
        return f"status {self.status}" if self.status else self.content.decode()


class _Transport:
    """A connection for each thread, opened again when it breaks."""

    KINDS: ClassVar = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}

    def __init__(self, base: str, timeout: float) -> None:
        parts = urlsplit(base)
        if parts.scheme not in self.KINDS or not parts.hostname:
            raise ValueError(f"not the address of a server: {base!r}")
        self._host, self._port, self._prefix = parts.hostname, parts.port, parts.path
        self._kind, self._timeout = self.KINDS[parts.scheme], timeout
        self._own = threading.local()

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> _Answer:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self._kind(self._host, self._port, timeout=self._timeout)
        try:
            connection.request(method, self._prefix + path, body, headers)
            response = connection.getresponse()
            return _Answer(response.status, response.read(), _seconds(response.headers.get("Retry-After")))
        except (OSError, http.client.HTTPException) as error:
            # It opens itself again for the next request.
            connection.close()
            return _Answer(0, f"no answer ({type(error).__name__})".encode())


def _seconds(retry_after: str | None) -> float:
    """0 without one. The API's is always a number of seconds; a proxy's may be a date, which counts as none."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def _refusal(answer: _Answer) -> ApiError:
    try:
        first = json.loads(answer.content)["errors"][0]
        return ApiError(answer.status, first["code"], first["detail"], first["attr"])
    except (ValueError, KeyError, IndexError, TypeError):
        # Not the API's: whoever is before it answers in a shape of its own.
        return ApiError(answer.status, "unknown", answer.content[:200].decode(errors="replace"))


def _of(kind: type[T], data: dict[str, Any]) -> T:
    """Fields that a later server may add are left out."""
    known = {field.name: data[field.name] for field in fields(kind)}
    for moment in ("created_at", "last_request_time"):
        # Python 3.10 knows no Z.
        known[moment] = datetime.fromisoformat(known[moment].replace("Z", "+00:00"))
    return kind(**known)


def _listed(newest_first: bool, after: int | None) -> dict[str, Any]:
    # Between two bounds, links stay within them: in descending order `after` alone would be the page nearest above it.
    bounds = {} if after is None else {"after": after, "before": 2**63 - 1}
    return {"order": "desc" if newest_first else "asc", **bounds}


def _messages(token: str, chat: int) -> str:
    return f"/applications/{token}/chats/{chat}/messages"
