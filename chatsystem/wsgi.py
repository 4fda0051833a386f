"""The WSGI entry point that gunicorn serves: Django, behind two corrections. Documented in docs/api.md.

It tells the server each request's route, for the metrics.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponseBase
from django.urls import get_resolver
from django.utils.http import parse_header_parameters
from django.utils.module_loading import import_string

from chatsystem import request_metrics

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsystem.settings")

django.setup(set_prefix=False)
request_metrics.share(settings.METRICS_DIR)
# Here, and not while the first request of each kind waits: the routes, and the search engine's driver, of 15 MB and a
# third of a second. Named by string, as imports run from the search room to this one.
get_resolver().url_patterns  # noqa: B018
import_string("search.backends.get_backend")()


class Handler(WSGIHandler):
    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        response = super().get_response(request)
        request.META[request_metrics.MATCH] = request.resolver_match
        return response


handler = Handler()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ.get("wsgi.input_terminated") and "HTTP_TRANSFER_ENCODING" in environ:
        # Django takes a body without a length for no body. Here the server ends it, and the parser caps it.
        environ["CONTENT_LENGTH"] = str(sys.maxsize)
    if not _in_utf8(environ.get("CONTENT_TYPE", "")):
        # Django decodes the query, too, by the body's charset: it would miss `limit=5` under UTF-16, and raise, outside
        # of whatever makes answers of exceptions, under zlib. The parser refuses this charset (415).
        environ["CONTENT_TYPE"] = "application/json; charset=unsupported"
    return handler(environ, start_response)


def _in_utf8(content_type: str) -> bool:
    try:
        charset = parse_header_parameters(content_type)[1].get("charset", "utf-8")
    except ValueError:
        return False
    return charset.lower() in ("utf-8", "utf8", "us-ascii", "ascii")
