"""What a word is."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator

import pytest
import regex

from search.highlight import highlight
from search.tokenizer import MARKS, PLAIN, QUERY_WORDS, TERM_LENGTH, CjkRun, Word, _compose, _fold, parse, terms, tokens
from tests.support.growth import growth


def words(text: str) -> Iterator[Word]:
    for token in tokens(text):
        if isinstance(token, CjkRun):
            for start, term in enumerate(token.terms, token.start):
                yield Word(term, start, start + 1, True)
        elif token:
            yield token


def fold(text: str) -> str:
    return _compose(_fold(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World", ["hello", "world"]),
        ("don't foo_bar", ["don", "t", "foo", "bar"]),
        ("п'ять п\u02bcять", ["п", "ять", "п", "ять"]),
        ("Hawai\u02bbi Qur\u02be\u0101n \u02bfAl\u012b Gor\u02b9kij", ["hawai", "i", "qur", "an", "ali", "gor", "kij"]),
        ("ma\u02eeq \u0374a cu\ua78cu \u07ca\u07f4\u07ca", ["ma", "q", "a", "cu", "u", "\u07ca", "\u07ca"]),
        ("\u0149 a\u0149b", ["n", "a", "nb"]),
        ("Élan e\u0301lan", ["elan", "elan"]),
        ("Straße STRASSE STRAẞE", ["strasse", "strasse", "strasse"]),
        ("ISIK ışık İSİK", ["isik", "isik", "isik"]),
        ("Ølŧ Łódź Đà Ħal Æon Œuvre", ["olt", "lodz", "da", "hal", "aeon", "oeuvre"]),
        ("مَرْحَبًا", ["مرحبا"]),
        ("हिन्दी", ["हिन्दी"]),
        ("น้ำ", ["น้ํา"]),
        ("한국어 한국어", ["한국어", "한국어"]),
        ("ﬁn 𝐀𝐁 Ⅳ ½", ["fin", "ab", "iv", "1", "2"]),
        ("iPhone手机", ["iphone", "手", "机"]),
        ("中国", ["中", "国"]),
        ("中 国", ["中", None, "国"]),
        ("中，国 a 国", ["中", None, "国", "a", "国"]),
        ("ｶﾞｷﾞ ガギ", ["ガ", "ギ", None, "ガ", "ギ"]),
        ("か゚パ", ["か゚", "パ"]),
        ("日々〆ー", ["日", "々", "〆", "ー"]),
        ("ゟ", ["よ", "り"]),
        ("㈠", ["一"]),
        ("葛\U000e0100飾", ["葛", "飾"]),
        ("🎉 ❤\ufe0f … ™ \u0301 \x00", []),
        ("a\x00b", ["a", "b"]),
        ("", []),
    ],
)
def test_the_terms_of_a_text(text: str, expected: list[str | None]) -> None:
    assert terms(text) == expected


@pytest.mark.parametrize("text", [2 * bytes(range(128)).decode(), "a_b 7C-d", "A" * (TERM_LENGTH + 1)])
def test_the_terms_of_an_ascii_text_are_those_of_its_words(text: str) -> None:
    assert terms(text) == [word.term for word in words(text)]


def test_what_unicode_calls_an_apostrophe_is_in_no_word() -> None:
    for code in range(sys.maxunicode + 1):
        if "APOSTROPHE" in unicodedata.name(chr(code), "") and "WITH" not in unicodedata.name(chr(code)):
            parted = terms(f"a{chr(code)}b")
            assert parted == terms("a'b") or "PRECEDED" in unicodedata.name(chr(code)), hex(code)


def test_a_chinese_or_japanese_character_that_is_taken_as_it_stands_folds_to_itself() -> None:
    plain = [chr(code) for code in range(sys.maxunicode + 1) if regex.match(PLAIN, chr(code))]
    assert len(plain) > 27_000
    for character in plain:
        assert fold(character) == character, hex(ord(character))
    # With a mark, it is tokenized separately.
    for character in plain[::100]:
        assert terms(f"{character}\u0301中") == [character, "中"]


def test_marks_beyond_those_that_any_language_needs_do_not_count() -> None:
    thirty = "ก" + "\u0e48" * MARKS
    assert terms(thirty + "\u0e49" * 100 + "น") == terms(thirty + "น")
    assert highlight(f"a {thirty}\u0e49!", parse(thirty)) == f"a <em>{thirty}\u0e49</em>!"


def test_words_stand_where_they_stood() -> None:
    text = "Ein ｶﾞe\u0301x ½ß"
    assert [(word.term, text[word.start : word.end]) for word in words(text)] == [
        ("ein", "Ein"),
        ("ガ", "ｶﾞ"),
        ("ex", "e\u0301x"),
        ("1", "½"),
        ("2ss", "½ß"),
    ]


def test_folding_and_taking_words_are_done_once_for_all() -> None:
    """For all of Unicode: folding is idempotent, and a term is one word. Otherwise a term would not match itself."""
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        folded = fold(character)
        assert fold(folded) == folded, hex(code)
        for word in words(character):
            assert [again.term for again in words(word.term)] == [word.term], hex(code)


def test_a_term_holds_nothing_that_a_tokenizer_parts() -> None:
    for code in range(sys.maxunicode + 1):
        for word in words(chr(code)):
            assert all(c.isalnum() or not c.isascii() for c in word.term), hex(code)


def test_a_term_is_cut_to_what_engines_take() -> None:
    (word,) = words("𐌰" * 16_000)
    assert len(word.term) == TERM_LENGTH
    assert len(word.term.encode()) <= 32_766


def test_a_query_is_bounded() -> None:
    query = parse(" ".join(f"{'x' * (number % 50)}{number}" for number in range(5_000)) + "中" * 5_000)
    assert len(query.prefixes) == QUERY_WORDS
    assert all(len(phrase) <= QUERY_WORDS for phrase in parse("中" * 5_000).phrases)
    assert len(parse("中 国 " * 5_000).phrases) == 2


def test_a_query_asks_for_each_word_once() -> None:
    query = parse("Élan elan 世界 ELAN 世界")
    assert query.prefixes == ("elan",)
    assert query.phrases == (("世", "界"),)
    assert not parse("% _ *")


@pytest.mark.parametrize(
    ("letter", "marks"),
    [("a", "\u0301\u0316"), ("中", "\u0316\u0301"), ("ｶ", "\uff9e\u0316"), ("ก", "\u0e48\u0e38"), ("", "\u0316\u0301")],
)
def test_a_letter_under_many_marks_takes_time_in_proportion_to_them(letter: str, marks: str) -> None:
    # Insertion sort would take 64 times as long for 8 times the marks.
    assert growth(lambda number: terms(letter + marks * number), 1_000, 8_000) < 24
    assert growth(lambda number: highlight(letter + marks * number, parse("a 中")), 1_000, 8_000) < 24
