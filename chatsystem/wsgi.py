"""The WSGI entry point: Django, with two corrections of the environment. Documented in docs/api.md.

It passes each request's route to the server, which counts it in the metrics.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler, WSGIRequest
from django.http import HttpRequest, HttpResponseBase
from django.urls import get_resolver
from django.utils.functional import cached_property
from django.utils.http import parse_header_parameters

from chatsystem.monitoring import request_metrics
from chatsystem.search_interface import search

# Overrides the value that the shell of another project may have exported.
os.environ["DJANGO_SETTINGS_MODULE"] = "chatsystem.settings"

django.setup(set_prefix=False)
request_metrics.share(settings.METRICS_DIR)
# Loads the routes and the search backend's driver (15 MB, a third of a second) before the first request waits for them.
get_resolver().url_patterns  # noqa: B018
search().load()


class Request(WSGIRequest):
    @cached_property
    def _host(self) -> str:
        return super().get_host()

    def get_host(self) -> str:
        """Parses and validates the host once. Middleware and links both ask for it."""
        return self._host


class Handler(WSGIHandler):
    request_class = Request

    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        response = super().get_response(request)
        request.META[request_metrics.MATCH] = request.resolver_match
        return response


handler = Handler()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
        # Django reads no body without a length. The server ends a chunked body, and the parser limits its size.
        environ["CONTENT_LENGTH"] = str(sys.maxsize)
    if not _in_utf8(environ.get("CONTENT_TYPE", "")):
        # Django decodes the query by the body's charset too. UTF-16 would hide `limit=5`, and zlib would raise outside
        # of Django's exception handling. The parser answers this charset with a 415.
        environ["CONTENT_TYPE"] = "application/json; charset=unsupported"
    return handler(environ, start_response)


def _in_utf8(content_type: str) -> bool:
    if ";" not in content_type:
        return True
    try:
        charset = parse_header_parameters(content_type)[1].get("charset", "utf-8")
    except ValueError:
        return False
    return charset.lower() in ("utf-8", "utf8", "us-ascii", "ascii")
