"""A WSGI application that replaces Django, to test what gunicorn answers itself and how it closes connections."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

if folder := os.environ.get("LOADING"):
    # Loads until the test lets it end.
    Path(folder, "begun").touch()
    while not Path(folder, "ended").exists():
        time.sleep(0.01)


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Reads the body under /applications/. Answers 413 to any other body, without reading it.

    `X-Until` makes it hold its thread until that file exists. `/large/N` returns N bytes.
    """
    while (until := environ.get("HTTP_X_UNTIL")) and not Path(until).exists():
        time.sleep(0.01)
    if environ["PATH_INFO"].startswith("/large/"):
        size = int(environ["PATH_INFO"].removeprefix("/large/"))
        start_response("200 OK", [("Content-Length", str(size))])
        return [b"x" * size]
    if environ["PATH_INFO"].startswith("/applications/"):
        environ["wsgi.input"].read()
    elif environ.get("CONTENT_LENGTH", "0") != "0":
        start_response("413 Payload Too Large", [("Content-Length", "8")])
        return [b"too much"]
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
