"""Splits texts and queries into terms, and decides when two words are the same. Documented in docs/search.md.

Every backend indexes, searches and highlights through `tokens`, so that all of them agree.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple

import regex

#: Apostrophes and primes that Unicode classifies as letters. Many languages and transliterations write them instead of
#: U+0027, so they separate words like U+0027. Modifier letters (prime, double prime, okina, apostrophe, reversed comma,
#: half rings, double apostrophe), two letters of N'Ko, and the saltillo.
APOSTROPHES = r"\u02B9-\u02BF\u02EE\u0374\u07F4\u07F5\uA78B\uA78C"
LETTER = rf"[[\p{{L}}\p{{N}}]--[{APOSTROPHES}]]"
#: Combining marks. In halfwidth kana, the voicing marks are letters of their own.
MARK = r"[\p{M}\uFF9E\uFF9F]"
#: The number of marks on one letter that count: Unicode's own limit (UAX 15, stream-safe text), far above the need of
#: any language. Normalisation sorts the marks of a letter by insertion, so 16,000 of them would take most of a second.
MARKS = 30

#: Letters, marks and digits. Everything else separates words, including the underscore and the apostrophe.
RUN = regex.compile(rf"(?:{LETTER}|\p{{M}})+", regex.V1)
ASCII_RUN = regex.compile(r"[A-Za-z0-9]+")
#: Chinese and Japanese characters that fold to themselves, unless a mark follows.
PLAIN = r"[\u3041-\u3096\u30A1-\u30FA\u30FC々〆\u3400-\u4DBF\u4E00-\u9FFF]"
#: Group 1: a run of plain characters. Group 2: any other character with its marks, up to MARKS of them.
UNIT = regex.compile(rf"((?:{PLAIN}(?!{MARK}))++)|((?!{MARK}).{MARK}{{0,{MARKS}}}+){MARK}*+", regex.V1 | regex.DOTALL)
EXCESS = regex.compile(rf"({MARK}{{{MARKS}}}){MARK}+", regex.V1)
#: Chinese and Japanese, which put no space between words.
CJK = regex.compile(r"[\p{Han}\p{Hiragana}\p{Katakana}ー々〆\uFF66-\uFF9F]")
#: A part of a folded unit that belongs to a word. Some letters fold to more than letters ("½" to "1⁄2").
FOLDED_UNIT = regex.compile(rf"{LETTER}\p{{M}}*", regex.V1)
FOLDED_WORD = regex.compile(rf"{LETTER}(?:{LETTER}|\p{{M}})*", regex.V1)

VARIATION_SELECTOR = regex.compile(r"\p{Variation_Selector}")

#: Letters with a stroke and ligatures, which Unicode does not decompose.
STROKES = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ħ": "h", "ŧ": "t", "ı": "i", "æ": "ae", "œ": "oe"})

#: The number of characters of a term that count. FTS5 and Lucene truncate or refuse terms above 32 KB.
TERM_LENGTH = 8_000
#: The number of words of a query that are searched for (the longest ones), and of characters of one CJK phrase.
QUERY_WORDS = 64


class Word(NamedTuple):
    """A term, and its position in the original text. If `cjk`, it is one CJK character with its marks."""

    term: str
    start: int
    end: int
    cjk: bool

    @property
    def terms(self) -> Sequence[str]:
        return (self.term,)


class CjkRun(NamedTuple):
    """Adjacent CJK characters, each of which is a term."""

    terms: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.terms)

    @property
    def cjk(self) -> bool:
        return True


def tokens(text: str) -> Iterator[Word | CjkRun | None]:
    """Yields the tokens of a text in order, with None between two CJK tokens that are not adjacent.

    No phrase matches across a None. CJK characters come in runs: one token each would make a Chinese text ten times
    more expensive.
    """
    last: Word | CjkRun | None = None
    for token in _tokens(text):
        # Adjacent tokens come from one character ("ゟ" yields "よ" and "り"), or one ends where the other begins.
        if last and last.cjk and token.cjk and token.start not in (last.start, last.end):
            yield None
        yield token
        last = token


def _tokens(text: str) -> Iterator[Word | CjkRun]:
    if text.isascii():
        for run in ASCII_RUN.finditer(text):
            yield Word(run[0].lower()[:TERM_LENGTH], run.start(), run.end(), False)
        return
    for run in RUN.finditer(text):
        if run[0].isascii():
            yield Word(run[0].lower()[:TERM_LENGTH], run.start(), run.end(), False)
            continue
        folded = "" if CJK.match(run[0]) else _fold(run[0])
        if FOLDED_WORD.fullmatch(folded) and not CJK.search(folded):
            yield Word(_compose(folded), run.start(), run.end(), False)
        else:
            yield from _split(run[0], run.start())


def _split(run: str, offset: int) -> Iterator[Word | CjkRun]:
    """Splits a run into CJK characters and the words before, between and after them."""
    word, start, end = "", 0, 0
    for unit in UNIT.finditer(run):
        if unit[1]:
            if word:
                yield Word(_compose(word), offset + start, offset + end, False)
                word = ""
            yield CjkRun(unit[1], offset + unit.start())
            continue
        for piece, belongs, cjk in _pieces(unit[2]):
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
    """Folds a unit and returns its characters: (text, whether it belongs to a word, whether it is CJK)."""
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


def _fold(text: str) -> str:
    """Removes case, accents and compatibility forms ("ﬁ", "ｱ").

    The result is decomposed: the marks of neighbouring characters must not compose before their words are known.
    """
    if len(text) > MARKS:
        text = EXCESS.sub(r"\1", text)
    # Twice, because decomposing can uncover upper case ("𝐀" is not a capital letter until it becomes "A").
    decomposed = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text.casefold()).casefold())
    return "".join(character for character in decomposed if not _is_accent(character)).translate(STROKES)


@lru_cache(maxsize=16_384)
def _is_accent(character: str) -> bool:
    """Returns True for points and accents, not for marks that are part of a letter in Devanagari, Thai or kana."""
    combining = unicodedata.combining(character)
    return 10 <= combining <= 36 or combining >= 200 or VARIATION_SELECTOR.match(character) is not None


def _compose(folded: str) -> str:
    return unicodedata.normalize("NFC", folded)[:TERM_LENGTH]


@dataclass(frozen=True)
class Query:
    """A parsed query: a word must begin with each of `prefixes`, and each of `phrases` (CJK terms) must occur."""

    prefixes: tuple[str, ...]
    phrases: tuple[tuple[str, ...], ...]

    def __bool__(self) -> bool:
        return bool(self.prefixes or self.phrases)


def parse(text: str) -> Query:
    """Parses a query. Above QUERY_WORDS distinct words only the longest count, which are the most selective."""
    prefixes: dict[str, None] = {}
    phrases: dict[tuple[str, ...], None] = {}
    for cjk, group in groupby(tokens(text), key=lambda token: token.cjk if token else None):
        terms = [term for token in group if token for term in token.terms]
        if cjk:
            phrases[tuple(terms[:QUERY_WORDS])] = None
        else:
            prefixes.update(dict.fromkeys(terms))
    longest = sorted(prefixes, key=len, reverse=True)[:QUERY_WORDS]
    return Query(tuple(longest), tuple(sorted(phrases, key=len, reverse=True)[: QUERY_WORDS - len(longest)]))


def terms(text: str) -> Sequence[str | None]:
    """Returns the terms to index, with None for each gap."""
    if text.isascii():
        return ascii_terms(text)
    found: list[str | None] = []
    for token in tokens(text):
        found += token.terms if token else (None,)
    return found


def ascii_terms(text: str) -> list[str]:
    """Returns the terms of an ASCII text, which has no CJK. Faster than `tokens`, which also computes positions."""
    return [run[:TERM_LENGTH] for run in ASCII_RUN.findall(text.lower())]
