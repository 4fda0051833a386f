"""Answers that are kept in the cache, and never older than an acknowledged write. Documented in docs/api.md."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.http import HttpResponse
from rest_framework.request import Request

from chatsystem.cache import asked

#: Seconds until an answer is forgotten. It is right for as long as its version is asked for; this bounds the memory.
LIFETIME = 30
#: Bytes of the largest answer that is kept.
MAX_BYTES = 128 * 1024


def kept(request: Request, version: str | None, answer: Callable[[], Any]) -> HttpResponse:
    """What `answer` gives as JSON, from the cache when this URL was asked for in this `version` before.

    The version has to be read before what it is the version of, and to be another after each write: then an answer may
    be newer than its version, and never older. With None nothing is kept.
    """
    key = f"answer:{hashlib.sha256(f'{version} {request.build_absolute_uri()}'.encode()).hexdigest()}"
    content = asked(lambda: cache.get(key), None) if version else None
    if content is None:
        content = request.accepted_renderer.render(answer())
        if version and len(content) <= MAX_BYTES:
            asked(lambda: cache.set(key, content, LIFETIME), None)
    return HttpResponse(content, content_type=request.accepted_media_type)
