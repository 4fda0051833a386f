"""A WSGI application in Django's place, for what gunicorn answers before Django, and how it closes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Reads what is sent to an application. Answers 413 to everything else with a body, and reads none of it."""
    if environ["PATH_INFO"].startswith("/applications/"):
        environ["wsgi.input"].read()
    elif environ.get("CONTENT_LENGTH", "0") != "0":
        start_response("413 Payload Too Large", [("Content-Length", "8")])
        return [b"too much"]
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
