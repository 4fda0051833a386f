"""The ASGI application of the live process: streams, long polls, and its health. Documented in docs/live.md.

Not Django's handler: that would hold a thread and 50 kB for each open stream. Django is set up for the settings, the
ORM and the write log.
"""

from __future__ import annotations

import logging
import os
import random
import re
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any, NamedTuple

import django

# Overrides the value that the shell of another project may have exported.
os.environ["DJANGO_SETTINGS_MODULE"] = "chatsystem.settings"
django.setup(set_prefix=False)

from django.conf import settings  # noqa: E402
from django.core.exceptions import SuspiciousOperation  # noqa: E402
from django.http import QueryDict  # noqa: E402
from django.http.request import split_domain_port, validate_host  # noqa: E402
from rest_framework.exceptions import APIException, MethodNotAllowed, NotAcceptable, NotFound, ParseError  # noqa: E402

from chatsystem.api.cors import cors_headers, preflight_headers  # noqa: E402
from chatsystem.api.query_params import integer, invalid, single  # noqa: E402
from chatsystem.logs.redaction import without_values  # noqa: E402
from chatsystem.logs.request_id import given_or_new, request_id  # noqa: E402
from chatsystem.server.handover import EVENTS_PATH  # noqa: E402
from chatsystem.writelog.exceptions import UnknownEntity  # noqa: E402
from chatsystem.writelog.keys import partition_of  # noqa: E402
from chatsystem.writelog.positions import Position  # noqa: E402
from chatsystem.writelog.reads import MAX_NUMBER  # noqa: E402
from live import tickets  # noqa: E402
from live.access import Known, TooMany  # noqa: E402
from live.catchup import Subject  # noqa: E402
from live.counts import counts  # noqa: E402
from live.errors import RETRY_SECONDS, InvalidTicket, NoEvents  # noqa: E402
from live.frames import as_json, heartbeat, retry  # noqa: E402
from live.reader import AWAY  # noqa: E402
from live.responses import (  # noqa: E402
    Headers,
    Response,
    Send,
    as_bytes,
    error_response,
    json_response,
    send_response,
)
from live.streams import LIFETIME, SPREAD, Refused, Stream, Streams  # noqa: E402
from live.views import DEFAULT_WAIT, EVENT_STREAM, MAX_EVENTS, MAX_WAIT, NO_POSITION, wants_json  # noqa: E402

logger = logging.getLogger(__name__)

#: The key of the ASGI scope under which the server passes a function that drops the connection at once.
ABORT = "live.abort"
#: The key for a function that writes a part of the response's body at once. The function writes nothing, and returns
#: False, until the client has taken all earlier bytes. A request of HTTP/1.0 has no such function.
PUSH = "live.push"

HEALTH = re.compile(r"/health/(live|ready)/?")

#: Milliseconds after which a client connects again. Drawn for each stream, so that they do not come all at once.
RETRY = (1_000, 3_000)
#: The same, for a client that was refused.
RETRY_REFUSED = (5_000, RETRY_SECONDS * 1_000)
#: Seconds for all streams to end when the process stops. Less than the 5 of the contract.
STOP_SECONDS = 4.0


class Request:
    """What is asked for. Has what `chatsystem.api.query_params` reads of a request of DRF."""

    def __init__(self, scope: dict[str, Any]) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.query_params = QueryDict(scope["query_string"])
        self.headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.abort: Callable[[], None] = scope[ABORT]
        self.push: Callable[[bytes], bool] | None = scope.get(PUSH)

    def header(self, name: str) -> str | None:
        return self.headers.get(name.lower())

    @property
    def is_preflight(self) -> bool:
        return self.method == "OPTIONS" and self.header("Access-Control-Request-Method") is not None

    @property
    def is_foreign(self) -> bool:
        """Whether the host is none of ALLOWED_HOSTS."""
        return not validate_host(split_domain_port(self.header("Host") or "")[0], settings.ALLOWED_HOSTS)

    @property
    def is_insecure(self) -> bool:
        """Whether it came without TLS, where HTTPS_ONLY is set."""
        return bool(settings.HTTPS_ONLY) and self.header("X-Forwarded-Proto") != "https"


class Opening(NamedTuple):
    """A stream that has not begun: where it begins, and whether the client's Last-Event-ID is malformed."""

    stream: Stream
    begin: Position | None
    is_malformed: bool


class Application:
    def __init__(self) -> None:
        self.streams = Streams()
        self.known = Known()

    def start(self, on_failure: Callable[[], None]) -> None:
        """Call it on the event loop. `on_failure` is called when the process has to be replaced."""
        self.streams.start(on_failure)

    def stop(self) -> None:
        """Refuses new streams, and ends all others within STOP_SECONDS."""
        self.streams.stop(STOP_SECONDS)

    async def __call__(self, scope: dict[str, Any], receive: object, send: Send) -> None:
        answer, headers = await self.answer(scope, send)
        if isinstance(answer, Opening):
            # A stream lasts for minutes, and there are thousands: from here on its task keeps nothing of the request.
            await self.serve(answer, send, headers)
        else:
            await send_response(send, answer, headers)

    async def answer(self, scope: dict[str, Any], send: Send) -> tuple[Response | Opening, Headers]:
        """Returns the response to a request, and the headers of every response. A stream still has to be served."""
        headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
        answer: Response | Opening
        try:
            request = Request(scope)
            name = given_or_new(request.header("X-Request-ID"))
            # The server runs each request in a context of its own.
            request_id.set(name)
            headers |= {"X-Request-ID": name, **cors_headers(request.header("Origin"))}
            answer = await self.respond(request, send)
        except APIException as error:
            answer = error_response(error)
        except SuspiciousOperation:
            # For example, more than 1,000 query parameters.
            answer = error_response(ParseError("Bad request.", "bad_request"))
        except Exception as error:
            logger.error("Error handling a request:\n%s", without_values(error))
            answer = error_response(APIException())
        return answer, as_bytes(headers)

    async def respond(self, request: Request, send: Send) -> Response | Opening:
        if found := HEALTH.fullmatch(request.path):
            return self.health(found[1])
        if request.is_foreign:
            raise ParseError("Bad request.", "bad_request")
        if request.is_insecure:
            query = f"?{request.query_params.urlencode()}" if request.query_params else ""
            return Response(301, headers={"Location": f"https://{request.header('Host')}{request.path}{query}"})
        if not EVENTS_PATH.fullmatch(request.path):
            raise NotFound
        if request.is_preflight and (allowed := preflight_headers(request.header("Origin"))):
            return Response(204, headers=allowed)
        if request.method != "GET":
            raise MethodNotAllowed(request.method)
        is_poll = wants_json(request.header("Accept") or "")
        if not is_poll and not accepts_stream(request.header("Accept") or "*/*"):
            raise NotAcceptable
        try:
            return await (self.poll(request) if is_poll else self.open(request, send))
        except (Refused, TooMany, *AWAY):
            counts.refused()
            if is_poll:
                raise NoEvents from None
            # EventSource gives up on any status but 200. It comes again after a stream that has ended.
            return Response(200, retry(random.randint(*RETRY_REFUSED)), EVENT_STREAM)

    def health(self, name: str) -> Response:
        if name == "live":
            return json_response({"status": "ok"})
        if self.streams.reader.is_alive and not self.streams.stopping:
            return json_response({"status": "ok"})
        return json_response({"status": "unavailable"}, 503, {"Retry-After": "1"})

    async def subject(self, request: Request) -> tuple[Subject, float]:
        """Returns whose events the client may read, and for how many seconds."""
        if (found := EVENTS_PATH.fullmatch(request.path)) and found[1]:
            token, chat = found[1], int(found[2]) if found[2] else None
            if chat is not None and chat > MAX_NUMBER:
                raise NotFound
            try:
                await self.known.expect((token, chat), self.streams.in_thread)
            except UnknownEntity:
                raise NotFound from None
            chats = None if chat is None else frozenset([chat])
            return Subject(partition_of(token), tickets.token_hash(token), chats), LIFETIME
        try:
            ticket = tickets.verify(single(request, "ticket") or "")
        except tickets.Invalid:
            raise InvalidTicket from None
        left = (ticket.expires_at - datetime.now(timezone.utc)).total_seconds()
        return Subject(ticket.partition, ticket.token_hash, ticket.chats), left

    async def open(self, request: Request, send: Send) -> Opening:
        begin = beginning(request)
        subject, left = await self.subject(request)
        lifetime = min(left, LIFETIME * random.uniform(1 - SPREAD, 1 + SPREAD))

        async def write(text: bytes, position: Position) -> None:
            await send({"type": "http.response.body", "body": text or heartbeat(position), "more_body": True})

        return Opening(Stream(self.streams, subject, write, request.abort, lifetime, push=request.push), *begin)

    async def serve(self, opening: Opening, send: Send, headers: Headers) -> None:
        """Sends a stream until it ends."""
        stream, begin, is_malformed = opening
        # Tells nginx not to buffer, where its configuration does not.
        head = [(b"content-type", EVENT_STREAM.encode()), (b"x-accel-buffering", b"no"), *headers]
        start = {"type": "http.response.start", "status": 200, "headers": head}

        async def begun() -> None:
            await send(start)
            first = retry(random.randint(*RETRY))
            await send({"type": "http.response.body", "body": first, "more_body": True})

        hint = RETRY_REFUSED
        try:
            self.streams.claim(stream)
            await stream.run(begin, is_malformed, begun)
            hint = RETRY
        except Refused:
            counts.refused()
        except Exception as error:
            # A client comes again after a stream that ends, and gives up after an error.
            logger.error("A stream has failed:\n%s", without_values(error))
        finally:
            self.streams.release(stream)
        if stream.position is None:
            await send(start)
        await send({"type": "http.response.body", "body": retry(random.randint(*hint))})

    async def poll(self, request: Request) -> Response:
        begin = beginning(request)
        wait = number(request, "wait", DEFAULT_WAIT, 0, MAX_WAIT)
        limit = number(request, "limit", MAX_EVENTS, 1, MAX_EVENTS)
        subject, _ = await self.subject(request)
        received: list[bytes] = []

        async def write(text: bytes, position: Position) -> None:
            if text:
                received.append(text)
                stream.end()

        stream = Stream(self.streams, subject, write, request.abort, LIFETIME, limit)
        stream.is_patient = wait > 0
        timer = self.streams.loop.call_later(wait, stream.lose_patience)
        try:
            self.streams.claim(stream)
            await stream.run(*begin)
        finally:
            timer.cancel()
            self.streams.release(stream)
        return json_response({"events": as_json(b"".join(received)), "position": str(stream.position)})


def beginning(request: Request) -> tuple[Position | None, bool]:
    """Returns the position at which the client begins, and whether its Last-Event-ID is malformed. Raises a 400."""
    after = single(request, "after")
    last = request.header("Last-Event-ID")
    # EventSource repeats its URL when it connects again, so the header counts.
    if last:
        try:
            return Position.parse(last), False
        except ValueError:
            # A browser cannot be told. It would stop for good.
            return None, True
    try:
        return (Position.parse(after) if after is not None else None), False
    except ValueError:
        raise invalid("after", NO_POSITION) from None


def number(request: Request, name: str, default: int, low: int, high: int) -> int:
    found = integer(request, name, default, low, high)
    return default if found is None else found


def accepts_stream(accept: str) -> bool:
    return any(kind in accept.lower() for kind in (EVENT_STREAM, "text/*", "*/*"))


application = Application()
