"""A client of the chat API in one file. It needs only the standard library: copy it into your project.

    from chat_client import ChatClient

    chat = ChatClient("https://chat.example.com", admin_key="…")
    app = chat.create_application("My app")
    support = chat.create_chat(app.token, "Support")
    chat.create_message(app.token, support.number, "Hello")
    for message in chat.messages(app.token, support.number):
        print(message.number, message.body)

    for event in chat.stream(app.token):
        print(event)  # a MessageEvent or a ChatEvent, as soon as somebody writes

The client retries a request after a 503, a 429 or a broken connection, for at most `patience` seconds. Each POST has
an Idempotency-Key, the same in every try, so it is one write however often it is sent. A PATCH is repeated unchanged.
Between tries the client waits for Retry-After, or backs off exponentially. Any other error raises `ApiError` at once.

A stream never ends by itself: it reconnects where it was, and misses nothing. To show what is there and then follow it,
take the position first:

    position = chat.position(app.token)
    shown = list(chat.messages(app.token, support.number))
    for event in chat.stream(app.token, position=position): ...

The client is thread-safe. Each thread has its own persistent connection, and each stream has one.
"""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import quote, urlencode, urlsplit

#: Statuses after which the same request may succeed: rate limits, and temporary errors of a server or proxy.
RETRIED = (429, 502, 503, 504)

#: Seconds between two tries without Retry-After: the first wait, doubled each time up to the second.
SHORTEST_WAIT, LONGEST_WAIT = 0.05, 5.0

#: Seconds without a byte after which a stream's connection is dead. The server sends a heartbeat every 15 s.
SILENCE = 45.0


class ChatError(Exception):
    """The base of all errors of this client."""


class ApiError(ChatError):
    """The API rejected the request. `code` is stable, `detail` is for people, `attr` names the field, if any."""

    def __init__(self, status: int, code: str, detail: str, attr: str | None = None) -> None:
        super().__init__(f"{status} {code}: {detail}" + (f" ({attr})" if attr else ""))
        self.status, self.code, self.detail, self.attr = status, code, detail, attr


class Unanswered(ChatError):
    """No final response came in time. A write may have been accepted. Repeating it with the same key tells."""


class StreamReset(ChatError):
    """Events before `position` may be missing, or were taken back. Reload what you show, and stream from there."""

    def __init__(self, position: str) -> None:
        super().__init__("the stream cannot continue where it was; reload what you show")
        self.position = position


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
    """A message that a search found. `highlight` is HTML: the escaped body, with <em> around each match."""

    application_token: str
    chat_number: int
    number: int
    body: str
    highlight: str
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True)
class MessageEvent:
    """A message was created or changed. A stream that begins at `position` continues after this event."""

    position: str
    chat_number: int
    number: int
    body: str
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True)
class ChatEvent:
    """A chat was created or renamed."""

    position: str
    number: int
    title: str
    created_at: datetime
    last_request_time: datetime


@dataclass(frozen=True)
class Ticket:
    """Lets a browser read events until `expires_at`, without the token."""

    ticket: str
    expires_at: datetime


Event = MessageEvent | ChatEvent
T = TypeVar("T", Application, Chat, Message, Hit, MessageEvent, ChatEvent, Ticket)


class ChatClient:
    def __init__(
        self, base: str, *, admin_key: str | None = None, patience: float = 60.0, timeout: float = 30.0
    ) -> None:
        """`admin_key` is for requests that span applications, if the server has one. `timeout` applies to each try."""
        self.patience = patience
        self._admin_key = admin_key
        self._transport = _Transport(base.rstrip("/"), timeout)

    # Applications

    def create_application(self, name: str, *, key: str | None = None) -> Application:
        """Creates an application. Here and below, pass your own Idempotency-Key as `key` to retry after a restart."""
        return _of(Application, self._post("/applications", {"name": name}, key, admin=True))

    def applications(self) -> Iterator[Application]:
        """Yields all stored applications, newest last, and reads pages as needed."""
        return self._pages(Application, "/applications", {}, admin=True)

    def application(self, token: str) -> Application:
        return _of(Application, self._get(f"/applications/{token}"))

    def rename_application(self, token: str, name: str) -> Application:
        return _of(Application, self._patch(f"/applications/{token}", {"name": name}))

    # Chats

    def create_chat(self, token: str, title: str, *, key: str | None = None) -> Chat:
        return _of(Chat, self._post(f"/applications/{token}/chats", {"title": title}, key))

    def chats(self, token: str, *, newest_first: bool = False, after: int | None = None) -> Iterator[Chat]:
        """Yields the chats with numbers above `after`, and reads pages as needed."""
        return self._pages(Chat, f"/applications/{token}/chats", _listed(newest_first, after))

    def chat(self, token: str, number: int) -> Chat:
        return _of(Chat, self._get(f"/applications/{token}/chats/{number}"))

    def rename_chat(self, token: str, number: int, title: str) -> Chat:
        return _of(Chat, self._patch(f"/applications/{token}/chats/{number}", {"title": title}))

    # Messages

    def create_message(self, token: str, chat: int, body: str, *, key: str | None = None) -> Message:
        return _of(Message, self._post(_messages(token, chat), {"body": body}, key))

    def create_messages(self, token: str, chat: int, bodies: Sequence[str], *, key: str | None = None) -> list[Message]:
        """Creates 1 to 1000 messages with consecutive numbers. Raises `ApiError` and creates none if any is invalid."""
        created = self._post(_messages(token, chat), [{"body": body} for body in bodies], key)
        return [_of(Message, message) for message in created]

    def messages(
        self, token: str, chat: int, *, newest_first: bool = False, after: int | None = None
    ) -> Iterator[Message]:
        """Yields the messages with numbers above `after`, and reads pages as needed."""
        return self._pages(Message, _messages(token, chat), _listed(newest_first, after))

    def message(self, token: str, chat: int, number: int) -> Message:
        return _of(Message, self._get(f"{_messages(token, chat)}/{number}"))

    def change_message(self, token: str, chat: int, number: int, body: str) -> Message:
        return _of(Message, self._patch(f"{_messages(token, chat)}/{number}", {"body": body}))

    # Search

    def search(self, query: str, *, application: str | None = None, chat: int | None = None) -> Iterator[Hit]:
        """Yields messages with words that begin with those of `query`, best first. Default: of all applications."""
        where = {"application": application, "chat": chat}
        params = {name: value for name, value in where.items() if value is not None}
        return self._pages(Hit, f"/search/{quote(query, safe='')}", params, admin=application is None)

    # Live

    def position(self, token: str, chat: int | None = None) -> str:
        """Returns where a stream of the application, or of one chat, begins now."""
        path = f"/applications/{token}/chats" if chat is None else _messages(token, chat)
        answer = self._ask("GET", f"{path}?limit=1", None, {}, admin=False)
        if not answer.position:
            raise ChatError("The server has no streams: its answer has no Stream-Position.")
        return answer.position

    def stream(
        self,
        token: str,
        *,
        chat: int | None = None,
        position: str | None = None,
        on_reset: Callable[[str], None] | None = None,
    ) -> Iterator[Event]:
        """Yields what is written from `position` on (default: from now on), in the application or in one chat.

        It waits for events, and reconnects for as long as it takes. Each event has the newest version; versions that
        were replaced meanwhile may be left out. If the server cannot continue at the position, it calls
        `on_reset(new_position)` and goes on from there. Without `on_reset` it raises `StreamReset`.
        """
        # Asked for at once: from the first event on, the position is known, however often the connection breaks.
        return self._events(token, chat, position or self.position(token, chat), on_reset)

    def _events(
        self, token: str, chat: int | None, position: str, on_reset: Callable[[str], None] | None
    ) -> Iterator[Event]:
        path = f"/applications/{token}" + ("" if chat is None else f"/chats/{chat}") + "/events"
        wait = SHORTEST_WAIT
        while True:
            with closing(_EventSource(self._transport)) as source:
                for frame in source.frames(f"{path}?{urlencode({'after': position})}"):
                    wait = SHORTEST_WAIT
                    position = frame.id or position
                    if frame.event == "reset":
                        position = json.loads(frame.data)["position"]
                        if on_reset is None:
                            raise StreamReset(position)
                        on_reset(position)
                    elif frame.data and frame.event == "message":
                        yield _of(MessageEvent, {**json.loads(frame.data), "position": position})
                    elif frame.event == "chat":
                        yield _of(ChatEvent, {**json.loads(frame.data), "position": position})
                pause = source.retry or wait * random.uniform(1, 1.5)
            time.sleep(pause)
            wait = min(wait * 2, LONGEST_WAIT)

    def create_ticket(self, token: str, *, chats: Sequence[int] | None = None, ttl: int | None = None) -> Ticket:
        """Creates a ticket for a browser: for `ttl` seconds, of these chats or of the whole application."""
        given = {"chats": chats and list(chats), "ttl": ttl}
        data = {name: value for name, value in given.items() if value is not None}
        return _of(Ticket, self._post(f"/applications/{token}/tickets", data, None))

    # Requests

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
            # A link has the host that the server sees. Behind a proxy it may differ from ours.
            following = f"{path}?{urlsplit(page['next']).query}" if page["next"] else ""

    def _call(self, method: str, path: str, data: Any, headers: dict[str, str], admin: bool) -> Any:
        return json.loads(self._ask(method, path, data, headers, admin).content)

    def _ask(self, method: str, path: str, data: Any, headers: dict[str, str], admin: bool) -> _Answer:
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
                return answer
            if answer.status and answer.status not in RETRIED:
                raise _api_error(answer)
            # Jitter, so that clients that were rejected together do not return together.
            pause = answer.retry_after or wait * random.uniform(1, 1.5)
            if time.monotonic() + pause > deadline:
                raise Unanswered(f"{method}: {answer} after {self.patience:g} s of tries")
            time.sleep(pause)
            wait = min(wait * 2, LONGEST_WAIT)


@dataclass(frozen=True)
class _Answer:
    """A response. `status` is 0 if none came; then `content` is the reason."""

    status: int
    content: bytes
    retry_after: float = 0.0
    position: str = ""

    def __str__(self) -> str:
        return f"status {self.status}" if self.status else self.content.decode()


class _Transport:
    """Keeps a connection for each thread, and reopens it when it breaks."""

    KINDS: ClassVar = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}

    def __init__(self, base: str, timeout: float) -> None:
        parts = urlsplit(base)
        if parts.scheme not in self.KINDS or not parts.hostname:
            raise ValueError(f"not the address of a server: {base!r}")
        self._host, self._port, self.prefix = parts.hostname, parts.port, parts.path
        self._kind, self._timeout = self.KINDS[parts.scheme], timeout
        self._own = threading.local()

    def connect(self, timeout: float) -> http.client.HTTPConnection:
        return self._kind(self._host, self._port, timeout=timeout)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> _Answer:
        connection = getattr(self._own, "connection", None)
        if connection is None:
            connection = self._own.connection = self.connect(self._timeout)
        try:
            connection.request(method, self.prefix + path, body, headers)
            return _answer(response := connection.getresponse(), response.read())
        except (OSError, http.client.HTTPException) as error:
            # The next request reopens it.
            connection.close()
            return _Answer(0, f"no answer ({type(error).__name__})".encode())


@dataclass
class _Frame:
    """One frame of a stream. A heartbeat has only an id."""

    id: str = ""
    event: str = "message"
    data: str = ""


class _EventSource:
    """One connection of a stream of server-sent events."""

    def __init__(self, transport: _Transport) -> None:
        self._transport = transport
        self._connection = transport.connect(SILENCE)
        #: Seconds to wait before the next connection, as the server says; 0 if it says nothing.
        self.retry = 0.0

    def frames(self, path: str) -> Iterator[_Frame]:
        """Yields complete frames until the connection ends. Raises `ApiError` if the server refuses for good."""
        try:
            self._connection.request("GET", self._transport.prefix + path, headers={"Accept": "text/event-stream"})
            response = self._connection.getresponse()
            if response.status != 200:
                answer = _answer(response, response.read())
                if answer.status not in RETRIED:
                    raise _api_error(answer)
                self.retry = answer.retry_after
                return
            frame = _Frame()
            # Half a line, and half a frame, are left alone: they come again after a reconnect.
            while (line := response.readline()).endswith(b"\n"):
                text = line.decode().rstrip("\r\n")
                if not text:
                    yield frame
                    frame = _Frame()
                    continue
                name, _, value = text.partition(":")
                value = value.removeprefix(" ")
                if name == "retry" and value.isdecimal():
                    self.retry = int(value) / 1000
                elif name in ("id", "event", "data"):
                    setattr(frame, name, value)
        except (OSError, http.client.HTTPException):
            return

    def close(self) -> None:
        self._connection.close()


def _answer(response: http.client.HTTPResponse, content: bytes) -> _Answer:
    headers = response.headers
    return _Answer(response.status, content, _seconds(headers.get("Retry-After")), headers.get("Stream-Position") or "")


def _seconds(retry_after: str | None) -> float:
    """Returns the seconds, or 0 without any. The API sends seconds. A date, which a proxy may send, is ignored."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 0.0


def _api_error(answer: _Answer) -> ApiError:
    try:
        first = json.loads(answer.content)["errors"][0]
        return ApiError(answer.status, first["code"], first["detail"], first["attr"])
    except (ValueError, KeyError, IndexError, TypeError):
        # Not from the API: a proxy has its own error format.
        return ApiError(answer.status, "unknown", answer.content[:200].decode(errors="replace"))


def _of(kind: type[T], data: dict[str, Any]) -> T:
    """Returns the entity. It ignores fields that a newer server may add."""
    known = {field.name: data[field.name] for field in fields(kind)}
    for moment in known.keys() & {"created_at", "last_request_time", "expires_at"}:
        # Python 3.10 does not parse a Z.
        known[moment] = datetime.fromisoformat(known[moment].replace("Z", "+00:00"))
    return kind(**known)


def _listed(newest_first: bool, after: int | None) -> dict[str, Any]:
    # Links stay within a range. In descending order, `after` alone would return only the page nearest above it.
    bounds = {} if after is None else {"after": after, "before": 2**63 - 1}
    return {"order": "desc" if newest_first else "asc", **bounds}


def _messages(token: str, chat: int) -> str:
    return f"/applications/{token}/chats/{chat}/messages"
