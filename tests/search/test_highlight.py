"""What a highlight marks."""

from __future__ import annotations

import pytest

from search.highlight import highlight
from search.tokenizer import parse
from tests.support.growth import growth


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
        ("中中中中中", "中中 中", "<em>中中中中中</em>"),
        ("か゚か゚き", "か゚", "<em>か゚か゚</em>き"),
        ("か゚か゚き", "か゚き", "か゚<em>か゚き</em>"),
        ("中\u0301国中国", "中国", "<em>中\u0301国中国</em>"),
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

    # A quadratic algorithm would take 64 times as long for 8 times the body.
    assert growth(lambda length: highlight((piece * length)[:length], query), 2_000, 16_000) < 24
