"""Search backends, of which settings.SEARCH_BACKEND names the one in use. Documented in docs/search.md."""

from __future__ import annotations

from functools import cache

from django.conf import settings
from django.utils.module_loading import import_string

from search.backends.base import SearchBackend


def get_backend() -> SearchBackend:
    return _backend(settings.SEARCH_BACKEND)


@cache
def _backend(name: str) -> SearchBackend:
    backend: SearchBackend = import_string(name)()
    return backend
