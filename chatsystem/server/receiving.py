"""Buffers for one connection: its requests on their way in, its responses on their way out.

No method waits for the client. Documented in docs/write-log.md, "Limits".
"""

from __future__ import annotations

import re
import socket
from enum import Enum
from typing import Any

#: Maximum bytes of a request's body.
MAX_BODY = 4 * 1024 * 1024
#: Maximum bytes of one read from a socket: of a known body, and of anything else, which is usually a small request.
PIECE = 1024 * 1024
FIRST_PIECE = 16 * 1024
#: Maximum bytes of a request line, of a chunk's size line, and of all trailers. gunicorn has the same limit for a line.
MAX_LINE = 8190
#: Minimum bytes that gunicorn reads of a body, even when the application asks for fewer.
READ_AHEAD = 1024
#: Maximum bytes of a chunked body including the size lines.
MAX_FRAMED = 2 * MAX_BODY

# These patterns only find where a request ends. gunicorn's parser decides whether it is valid.
HAS_LENGTH = re.compile(rb"\r\ncontent-length[ \t]*:", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*0*([0-9]{1,18})[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*(?=\r\n)", re.IGNORECASE)
#: The first character of a chunk's size, or nothing when the chunk has not begun to arrive.
DIGIT = re.compile(rb"[0-9a-fA-F]|\Z")
RAW = re.compile(rb"[\x80-\xff]")


class State(Enum):
    #: More of the request has to arrive.
    ARRIVING = 1
    #: The whole request has arrived.
    WHOLE = 2
    #: The rest is not received: the head or the body is too large, framed wrongly, or ended early.
    CUT = 3
    #: The client closed the connection before its headers were complete.
    GONE = 4


class RequestBuffer:
    """Holds what has arrived. gunicorn's parser reads it like a socket, and never beyond the current request."""

    def __init__(self, client: socket.socket, max_head: int) -> None:
        self.client = client
        self.max_head = max_head
        self.data = bytearray()
        self._begin()

    def _begin(self) -> None:
        self.state = State.ARRIVING
        self.over = False
        self._read = 0
        self._searched = 0
        self._head = 0
        #: The end of the request, or of the chunks seen so far.
        self._end = 0
        self._chunked = False
        self._body = 0
        #: Whether the client waits for 100 Continue.
        self._expects = False

    def receive(self) -> None:
        """Reads what the socket has, without waiting."""
        try:
            wanted = min(self._end - len(self.data), PIECE)
            piece = self.client.recv(max(wanted, FIRST_PIECE), socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            piece = b""
        self.over = not piece
        self.data += piece

    def look(self) -> State:
        """Returns the state of the current request. Call it after each `receive`."""
        if not self._head and not self._look_for_head():
            # gunicorn's parser refuses a head of this size.
            self.state = State.CUT if len(self.data) > self.max_head else self.state
        elif self._chunked:
            self._look_for_last_chunk()
        elif self._end - self._head > MAX_BODY:
            self.state = State.CUT
        elif self.state is State.ARRIVING and len(self.data) >= self._end:
            self.state = State.WHOLE
        if self.over and self.state is State.ARRIVING:
            self.state = State.CUT if self._head else State.GONE
        return self.state

    def _look_for_head(self) -> bool:
        found = self.data.find(b"\r\n\r\n", max(self._searched - 3, 0))
        self._searched = len(self.data)
        if found < 0:
            return False
        # curl sends a path in raw UTF-8 as the user typed it. gunicorn's parser would refuse it.
        method, space, rest = bytes(self.data[: self.data.find(b"\r\n")]).partition(b" ")
        if len(rest) <= MAX_LINE and not rest.isascii():
            quoted = RAW.sub(lambda byte: b"%%%02X" % ord(byte[0]), rest)
            self.data[: len(method + space + rest)] = method + space + quoted
            found += len(quoted) - len(rest)
        # The main loop sends the 100 Continue, before gunicorn sees the request. gunicorn would send a second one.
        if len(expects := list(EXPECTS.finditer(self.data, 0, found + 4))) == 1:
            self._expects = len(self.data) == found + 4
            del self.data[expects[0].start() : expects[0].end()]
            found -= len(expects[0][0])
        self._head = self._end = found + 4
        head = bytes(self.data[: self._head])
        length = LENGTH.search(head)
        if len(HAS_LENGTH.findall(head)) != bool(length):
            # This length is written in a way that the pattern does not match. If the parser accepted it, the body
            # would be read as the next request (request smuggling).
            self.state = State.CUT
            return True
        if not CHUNKED.search(head):
            self._end += int(length[1]) if length else 0
        elif length:
            # The parser refuses a request with both, so nothing more is received.
            self.state = State.CUT
        else:
            self._chunked = True
        return True

    def _look_for_last_chunk(self) -> None:
        """Moves from one chunk's size line to the next. The parser refuses a malformed one."""
        if len(self.data) - self._head > MAX_FRAMED:
            self.state = State.CUT
            return
        while True:
            line = self.data.find(b"\r\n", self._end, self._end + MAX_LINE)
            if line < 0:
                if len(self.data) - self._end > MAX_LINE or not DIGIT.match(self.data, self._end):
                    self.state = State.CUT
                return
            try:
                size = int(bytes(self.data[self._end : line]).partition(b";")[0], 16)
            except ValueError:
                size = -1
            there = min(size, len(self.data) - line - 2)
            if size < 0 or self._body + there > MAX_BODY + READ_AHEAD:
                # Only once the excess byte has arrived: the reader of the body must meet it before the end.
                self.state = State.CUT
                return
            if size == 0:
                # The trailers begin here. Without any, this line's end is the first half of the closing blank line.
                end = self.data.find(b"\r\n\r\n", line)
                if end >= 0:
                    self._end = end + 4
                    self.state = State.CUT if self._body > MAX_BODY else State.WHOLE
                elif len(self.data) - line > MAX_LINE:
                    self.state = State.CUT
                return
            if len(self.data) < line + 2 + size + 2:
                return
            self._body += size
            self._end = line + 2 + size + 2

    def take_expectation(self) -> bool:
        """Returns whether the client waits for 100 Continue, and only once."""
        expects, self._expects = self._expects, False
        return expects and self.state is State.ARRIVING

    def recv(self, size: int) -> bytes:
        """Reads like `socket.recv`: first the rest of the current request, then the end of the stream."""
        end = self._end if self.state is State.WHOLE else len(self.data)
        until = min(self._read + size, end)
        piece = bytes(memoryview(self.data)[self._read : until])
        self._read = until
        return piece

    def next(self) -> None:
        """Drops the current request. Part of the next one may have arrived already."""
        del self.data[: self._end]
        self._begin()


class ResponseBuffer:
    """Collects what gunicorn sends. The main loop sends what the client does not take at once."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.data = bytearray()

    def sendall(self, data: bytes) -> None:
        self.data += data

    def push(self) -> None:
        """Sends what the client takes now. Raises OSError when the client is gone."""
        try:
            while self.data:
                del self.data[: self.client.send(self.data, socket.MSG_DONTWAIT)]
        except BlockingIOError:
            return
        except OSError:
            self.data.clear()
            raise


class Exchange:
    """What the worker knows of a connection in addition to gunicorn's `TConn`."""

    def __init__(self, client: socket.socket, max_head: int) -> None:
        self.request = RequestBuffer(client, max_head)
        self.response = ResponseBuffer(client)
        #: When the first byte of the request arrived, by `time.perf_counter`; 0.0 before that.
        self.arrived = 0.0
        #: Whether the connection stays open after the response.
        self.keep_alive = False
        #: Bytes discarded since the last response.
        self.discarded = 0

    def is_received(self, request: Any) -> bool:
        """Discards the unread rest of the body. Returns whether the connection can serve another request."""
        if self.request.state is not State.WHOLE:
            return False
        try:
            while request.body.read(PIECE):
                pass
        except Exception:  # gunicorn's own classes, for malformed chunks and trailers
            return False
        return not request.body.failed and not request.unreader.buf.getvalue()
