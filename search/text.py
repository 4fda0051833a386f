"""What a word is, and when two are the same. Documented in docs/search.md.

Indexing, querying and highlighting of every backend go through `words`, so that they cannot disagree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import regex
from django.utils.html import escape

#: Letters, marks and digits. Everything else separates words, the underscore and the apostrophe too.
RUN = regex.compile(r"[\p{L}\p{M}\p{N}]+")
ASCII_RUN = regex.compile(r"[A-Za-z0-9]+")
#: A character with the marks on it. Halfwidth kana carry their voicing marks as letters of their own.
UNIT = regex.compile(r"[^\p{M}\uFF9E\uFF9F][\p{M}\uFF9E\uFF9F]*")
#: Chinese and Japanese, which put no space between words.
CJK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー々〆\uFF66-\uFF9F]")
#: A folded unit that belongs to a word; some letters fold to more than letters ("½" to "1⁄2").
FOLDED_UNIT = regex.compile(r"[\p{L}\p{N}]\p{M}*")
FOLDED_WORD = regex.compile(r"[\p{L}\p{N}][\p{L}\p{M}\p{N}]*")

VARIATION_SELECTOR = regex.compile(r"\p{Variation_Selector}")

#: Letters whose stroke or ligature Unicode does not decompose.
STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe"})

#: Characters of a term that count. FTS5 and Lucene both cut or refuse terms beyond 32 KB.
TERM_LENGTH = 8_000
#: Words of a query that are looked for, the longest of them, and characters of one CJK run.
QUERY_WORDS = 64


class Word(NamedTuple):
    """A term, and where it stands in the original text. A CJK term is one character, of which `cjk` tells."""

    term: str
    start: int
    end: int
    cjk: bool


def words(text: str) -> Iterator[Word]:
    """The words of a text, in its order. Two CJK words are adjacent when one ends where the other begins."""
    if text.isascii():
        for run in ASCII_RUN.finditer(text):
            yield Word(run[0].lower()[:TERM_LENGTH], run.start(), run.end(), False)
        return
    for run in RUN.finditer(text):
        if run[0].isascii():
            yield Word(run[0].lower()[:TERM_LENGTH], run.start(), run.end(), False)
            continue
        folded = _fold(run[0])
        if FOLDED_WORD.fullmatch(folded) and not CJK.search(folded):
            yield Word(_compose(folded), run.start(), run.end(), False)
        else:
            yield from _split(run[0], run.start())


def _split(run: str, offset: int) -> Iterator[Word]:
    """The words of a run that is more than one: words before, between and after CJK characters."""
    word, start, end = "", 0, 0
    for unit in UNIT.finditer(run):
        for piece, belongs, cjk in _pieces(unit[0]):
            if belongs and not cjk:
                start = start if word else unit.start()
                word += piece
                end = unit.end()
                continue
            if word:
                yield Word(_compose(word), offset + start, offset + end, False)
                word = ""
            if cjk:
                yield Word(piece, offset + unit.start(), offset + unit.end(), True)
    if word:
        yield Word(_compose(word), offset + start, offset + end, False)


@lru_cache(maxsize=16_384)
def _pieces(unit: str) -> tuple[tuple[str, bool, bool], ...]:
    """What a unit folds to, character by character: (text, does it belong to a word, is it CJK)."""
    pieces = []
    folded = _fold(unit)
    at = 0
    while at < len(folded):
        match = FOLDED_UNIT.match(folded, at)
        piece = match[0] if match else folded[at]
        cjk = bool(match and CJK.match(piece))
        pieces.append((_compose(piece) if cjk else piece, match is not None, cjk))
        at += len(piece)
    return tuple(pieces)


def fold(text: str) -> str:
    """The text without case, accents and the differences that compatibility forms make ("ﬁ", "ｱ")."""
    return _compose(_fold(text))


def _fold(text: str) -> str:
    """Decomposed, because marks of neighbours must not compose before their words are known."""
    # Twice: case folding reaches what decomposing has uncovered ("𝐀" is no capital letter before it is an "A").
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return "".join(character for character in decomposed if not _is_accent(character)).translate(STROKES)


@lru_cache(maxsize=16_384)
def _is_accent(character: str) -> bool:
    """Points and accents; not the marks that are part of a letter in Devanagari, Thai or kana."""
    combining = unicodedata.combining(character)
    return 10 <= combining <= 36 or combining >= 200 or VARIATION_SELECTOR.match(character) is not None


def _compose(folded: str) -> str:
    return unicodedata.normalize("NFC", folded)[:TERM_LENGTH]


@dataclass(frozen=True)
class Query:
    """What a query asks for: words that begin with each of `prefixes`, and each of `phrases`, a run of CJK terms."""

    prefixes: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.prefixes or self.phrases)


def parse(text: str) -> Query:
    """The words of a query. Of more than QUERY_WORDS different ones the longest are taken: they tell most."""
    prefixes: dict[str, None] = {}
    phrases: dict[tuple[str, ...], None] = {}
    for cjk, group in groupby(words_and_gaps(text), key=lambda word: word.cjk if word else None):
        if cjk:
            phrases[tuple(word.term for word in group if word)[:QUERY_WORDS]] = None
        elif cjk is not None:
            prefixes.update((word.term, None) for word in group if word)
    longest = sorted(prefixes, key=len, reverse=True)[:QUERY_WORDS]
    return Query(tuple(longest), tuple(sorted(phrases, key=len, reverse=True)[: QUERY_WORDS - len(longest)]))


def terms(text: str) -> Sequence[str | None]:
    """The terms to index, with None for each gap."""
    if text.isascii():
        return ascii_terms(text)
    return [word.term if word else None for word in words_and_gaps(text)]


def ascii_terms(text: str) -> list[str]:
    """The same of a text in ASCII, which holds no CJK. Their places, which nobody indexes, cost most of `words`."""
    return [run[:TERM_LENGTH] for run in ASCII_RUN.findall(text.lower())]


def words_and_gaps(text: str) -> Iterator[Word | None]:
    """The words of a text, with None where two CJK runs are parted, so that no phrase matches across."""
    last: Word | None = None
    for word in words(text):
        if last and last.cjk and word.cjk and word.start not in (last.start, last.end):
            yield None
        yield word
        last = word


def highlight(text: str, query: Query) -> str:
    """The text as HTML, with `<em>` around what the query matches: whole words, exact runs of CJK characters."""
    parts = []
    at = 0
    for start, end in _merged(_matches(text, query)):
        parts += [escape(text[at:start]), "<em>", escape(text[start:end]), "</em>"]
        at = end
    parts.append(escape(text[at:]))
    return "".join(parts)


def _matches(text: str, query: Query) -> list[tuple[int, int]]:
    found: list[Word | None] = list(words_and_gaps(text))
    matches = [
        (word.start, word.end) for word in found if word and not word.cjk and word.term.startswith(query.prefixes)
    ]
    if query.phrases:
        sequence = [word.term if word and word.cjk else None for word in found]
        starts: dict[str, list[int]] = {}
        for position, term in enumerate(sequence):
            if term is not None:
                starts.setdefault(term, []).append(position)
        for phrase in query.phrases:
            for position in starts.get(phrase[0], ()):
                if tuple(sequence[position : position + len(phrase)]) == phrase:
                    first, last = found[position], found[position + len(phrase) - 1]
                    if first and last:
                        matches.append((first.start, last.end))
    return matches


def _merged(spans: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The spans in order, those that touch or overlap made one."""
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
