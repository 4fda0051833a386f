"""Search on SQLite's FTS5, in a file of its own. Documented in docs/search.md."""

from search.backends.fts5.backend import Fts5Backend

__all__ = ["Fts5Backend"]
