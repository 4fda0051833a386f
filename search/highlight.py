"""Marks the matches of a query in a text. Documented in docs/search.md."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence

from django.utils.html import escape

from search.tokenizer import CjkRun, Query, Word, tokens


def highlight(text: str, query: Query) -> str:
    """Returns the text as HTML, with `<em>` around each match: whole words, and exact runs of CJK characters."""
    parts = []
    at = 0
    for start, end in _merged(_matches(text, query)):
        parts += [escape(text[at:start]), "<em>", escape(text[start:end]), "</em>"]
        at = end
    parts.append(escape(text[at:]))
    return "".join(parts)


def _matches(text: str, query: Query) -> list[tuple[int, int]]:
    """Returns the spans of the query's words and phrases."""
    matches: list[tuple[int, int]] = []
    cjk_text = _CjkText()
    for token in tokens(text):
        if query.phrases:
            cjk_text.add(token)
        if isinstance(token, Word) and not token.cjk and token.term.startswith(query.prefixes):
            matches.append((token.start, token.end))
    for phrase in query.phrases:
        matches += cjk_text.find(phrase)
    return matches


class _CjkText:
    """The CJK terms of a text as a string with one character for each term, so that `str.find` finds phrases."""

    def __init__(self) -> None:
        #: Private-use characters that stand for the terms of several characters ("か゚").
        self._aliases: dict[str, str] = {}
        self._parts: list[str] = []
        #: The CJK tokens, and where in the string each begins.
        self._tokens: list[Word | CjkRun] = []
        self._begins: list[int] = []
        self._length = 0

    def add(self, token: Word | CjkRun | None) -> None:
        part = " "
        if token and token.cjk:
            part = token.terms if isinstance(token, CjkRun) else self._alias(token.term)
            self._begins.append(self._length)
            self._tokens.append(token)
        self._parts.append(part)
        self._length += len(part)

    def find(self, phrase: Sequence[str]) -> Iterator[tuple[int, int]]:
        """Yields the spans of the phrase in the text. Matches that overlap or touch may come as one span."""
        line = "".join(self._parts)
        sought = "".join(map(self._alias, phrase))
        first = line.find(sought)
        while first >= 0:
            last = first
            # Each step jumps to the furthest overlapping match. One by one there may be as many as characters.
            while (further := line.rfind(sought, last + 1, last + 2 * len(sought))) >= 0:
                last = further
            last += len(sought) - 1
            yield self._span(first)[0], self._span(last)[1]
            first = line.find(sought, last + 1)

    def _alias(self, term: str) -> str:
        return term if len(term) == 1 else self._aliases.setdefault(term, chr(0xF0000 + len(self._aliases)))

    def _span(self, at: int) -> tuple[int, int]:
        """Returns the span in the original text of the string's character at `at`."""
        index = bisect_right(self._begins, at) - 1
        token = self._tokens[index]
        if isinstance(token, CjkRun):
            start = token.start + at - self._begins[index]
            return start, start + 1
        return token.start, token.end


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yields the spans in order, with those that touch or overlap merged."""
    current: tuple[int, int] | None = None
    for start, end in sorted(spans):
        if current and start <= current[1]:
            current = current[0], max(current[1], end)
            continue
        if current:
            yield current
        current = start, end
    if current:
        yield current
