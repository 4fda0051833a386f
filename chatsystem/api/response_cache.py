"""Caches rendered responses by version, so that none is older than an acknowledged write. Documented in docs/api.md."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from django.core.cache import cache
from django.http import HttpResponse
from rest_framework.request import Request

from chatsystem.cache import with_fallback

#: Seconds. Entries never go stale, because their key has the version; this only bounds the memory.
LIFETIME = 30
#: Bytes of the largest response that is cached.
MAX_BYTES = 128 * 1024


def cached_response(request: Request, version: str | None, answer: Callable[[], Any]) -> HttpResponse:
    """Returns `answer()` as JSON, or the cached response to this URL at this `version`.

    The version must change with each write, and must be read before the data. Then a response may be newer than its
    version, but never older. With None nothing is cached.
    """
    key = f"answer:{hashlib.sha256(f'{version} {request.build_absolute_uri()}'.encode()).hexdigest()}"
    content = with_fallback(lambda: cache.get(key), None) if version else None
    if content is None:
        content = request.accepted_renderer.render(answer())
        if version and len(content) <= MAX_BYTES:
            with_fallback(lambda: cache.set(key, content, LIFETIME), None)
    return HttpResponse(content, content_type=request.accepted_renderer.media_type)
