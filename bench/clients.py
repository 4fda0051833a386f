"""A cheap HTTP client for closed loops, so that a benchmark measures the product and not the client."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Response:
    """A response. `status` is 0 if there was none. Times are seconds of the monotonic clock."""

    status: int
    began: float
    ended: float
    retry_after: float
    body: bytes

    @property
    def milliseconds(self) -> float:
        return (self.ended - self.began) * 1000

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One keep-alive connection, which is opened again when it breaks."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.host, self.port = parts.hostname, parts.port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, data: Any) -> Response:
        return await self.request("POST", path, data)

    async def get(self, path: str) -> Response:
        return await self.request("GET", path)

    async def request(self, method: str, path: str, data: Any = None) -> Response:
        body = b"" if data is None else json.dumps(data).encode()
        began = time.monotonic()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        try:
            if self.streams is None:
                self.streams = await asyncio.open_connection(self.host, self.port)
            reader, writer = self.streams
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            status_line, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            content = await reader.readexactly(int(headers["content-length"]))
        except (OSError, EOFError, asyncio.IncompleteReadError):
            self.close()
            return Response(0, began, time.monotonic(), 0.0, b"")
        if headers.get("connection") == "close":
            self.close()
        wait = float(headers.get("retry-after", 0))
        return Response(int(status_line.split()[1]), began, time.monotonic(), wait, content)

    def close(self) -> None:
        if self.streams is not None:
            self.streams[1].close()
            self.streams = None


def percentile(values: list[float], share: float) -> float:
    """Returns the value below which that share of the values lies."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
