"""The interface to search for the packages below it. Imports run downwards, so search registers itself at startup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol


class Lag(Protocol):
    """How far the index lags behind the database."""

    @property
    def entries(self) -> int: ...

    @property
    def seconds(self) -> float: ...


class SearchProvider(Protocol):
    def load(self) -> None:
        """Loads the backend and its driver, so that no request waits for it."""

    def ping(self) -> None:
        """Raises what the backend raises while it is down."""

    def identity(self) -> str:
        """Returns the random id of the embedded index, or an empty string for a shared index."""

    def index_state(self) -> Mapping[str, Any]:
        """Describes the index in service, for the operations page."""

    def lag(self) -> Lag:
        """Returns how far the index lags behind the database."""

    def best_matches(self, words: str) -> list[int] | None:
        """Returns the ids of the best matches across all applications, or None while search is down."""


_registered: list[SearchProvider] = []


def register(provider: SearchProvider) -> None:
    _registered[:] = [provider]


def search() -> SearchProvider:
    [provider] = _registered
    return provider
