"""Text is kept byte for byte, and its limits count code points."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.support.places import FIELD, Place, each_refuses, refused

TEXTS = {
    "spaces around": "  two before, three after   ",
    "only a space": " ",
    "line ends": "\r\n a \r b \n\n c \t\v\f",
    "emoji": "👩‍👩‍👧‍👦 🇪🇬 👍🏽 ❤️",
    "right to left": "مرحبا \u202bשלום\u202c \u200f",
    "line separators": "a\u2028b\u2029c\u0085d",
    "combining": "e\u0301 n\u0303",
    "precomposed": "\u00e9 \u00f1",
    "byte order mark inside": "\ufeffa\ufeffb",
    "noncharacters": "\ufffe \uffff \U0010ffff \ufffd",
    "control characters": "".join(map(chr, range(1, 32))) + "\x7f\x80\x9f",
    "markup": '<script>alert("&amp;")</script> \\u0041 \\ / % _ * {} $1 %s',
    "looks like what the log keeps": "1795449565599900 - 1795449565599901 ok",
    "looks like JSON": '{"body": "x"}',
    "looks like a number": "1e400",
    "East Asian": "全角　空白 日本語 한국어",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_is_kept_to_the_byte(places: list[Place], drained: Callable, text: str) -> None:
    written = []
    for place in places:
        created = place.create(text)
        assert created[place.kind.field] == text
        changed = place.change(place.create("other"), text)
        assert changed[place.kind.field] == text
        assert (place.read(created), place.read(changed)) == (created, changed)
        written += [(place, created), (place, changed)]

    drained()

    for place, entity in written:
        assert place.read(entity)[place.kind.field] == text


def test_text_may_come_as_bytes_or_as_escapes(place: Place) -> None:
    text = "é😀\u2028"
    for ensure_ascii in (True, False):
        content = json.dumps({place.kind.field: text}, ensure_ascii=ensure_ascii).encode()

        assert place.send_raw(content).json()[place.kind.field] == text


@pytest.mark.parametrize("character", ["a", "é", "日", "😀", " ", "\n"], ids=ascii)
def test_the_longest_text_is_accepted_and_one_more_is_refused(place: Place, settle: Callable, character: str) -> None:
    longest = character * place.kind.longest

    created = place.create(longest)
    changed = place.change(place.create(), longest)
    settle()

    assert place.read(created)[place.kind.field] == longest
    assert place.read(changed)[place.kind.field] == longest
    refused(place, lambda place: place.send(longest + character), 400, "max_length", place.kind.field)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("\0", "null_characters_not_allowed"),
        ("a\0b", "null_characters_not_allowed"),
        ("\ud800", "surrogate_characters_not_allowed"),
        ("a\udfffb", "surrogate_characters_not_allowed"),
        ("\ude00\ud83d", "surrogate_characters_not_allowed"),
    ],
    ids=ascii,
)
def test_what_no_text_can_hold_is_refused(places: list[Place], text: str, code: str) -> None:
    each_refuses(places, lambda place: place.send_raw(json.dumps({place.kind.field: text}).encode()), 400, code, FIELD)
