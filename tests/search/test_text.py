"""What a word is, and what a highlight marks."""

from __future__ import annotations

import sys

import pytest

from search.text import QUERY_WORDS, TERM_LENGTH, fold, highlight, parse, terms, words
from tests.growth import growth


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World", ["hello", "world"]),
        ("don't foo_bar", ["don", "t", "foo", "bar"]),
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
    """Else a term would not find itself: in all of Unicode, what is folded folds to itself, and a term is one word."""
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
    ("text", "query", "expected"),
    [
        ("Welcome home", "hom wel", "<em>Welcome</em> <em>home</em>"),
        ("Élan", "elan", "<em>Élan</em>"),
        ("e\u0301lan!", "ELA", "<em>e\u0301lan</em>!"),
        ("Straße", "stras", "<em>Straße</em>"),
        (
            "<script>alert('&')</script>",
            "script",
            "&lt;<em>script</em>&gt;alert(&#x27;&amp;&#x27;)&lt;/<em>script</em>&gt;",
        ),
        ("<em>x</em>", "x", "&lt;em&gt;<em>x</em>&lt;/em&gt;"),
        ("你好世界", "好世", "你<em>好世</em>界"),
        ("你好世界", "你好 世界", "<em>你好世界</em>"),
        ("中中中文", "中中", "<em>中中中</em>文"),
        ("中 中文", "中文", "中 <em>中文</em>"),
        ("iPhone手机", "手", "iPhone<em>手</em>机"),
        ("iPhone手机", "ip", "<em>iPhone</em>手机"),
        ("ｶﾞｷﾞｸﾞ", "ギ", "ｶﾞ<em>ｷﾞ</em>ｸﾞ"),
        ("مرحبا & بالعالم", "مرح", "<em>مرحبا</em> &amp; بالعالم"),
        ('a "quoted" word', "word", "a &quot;quoted&quot; <em>word</em>"),
        ("nothing here", "absent", "nothing here"),
        ("🎉🎉 party 🎉", "party", "🎉🎉 <em>party</em> 🎉"),
    ],
)
def test_a_highlight(text: str, query: str, expected: str) -> None:
    assert highlight(text, parse(query)) == expected


@pytest.mark.parametrize("piece", ["hello world ", "Größe ", "中", "ｶﾞ", "e\u0301 ", "<&>", "a中"])
def test_a_highlight_takes_time_in_proportion_to_the_body(piece: str) -> None:
    query = parse(f"{piece * 64} h g a 中中")

    # A quadratic one would take 64 times as long for 8 times the body.
    assert growth(lambda length: highlight((piece * length)[:length], query), 2_000, 16_000) < 24
