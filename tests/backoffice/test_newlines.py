"""The browser's changes to newlines do not reach the text."""

from __future__ import annotations

import random

import pytest

from chatsystem.backoffice.text_field import NEWLINE, keep_newlines
from tests.support.growth import growth


def browsers(text: str) -> str:
    return NEWLINE.sub("\r\n", text)


@pytest.mark.parametrize("text", ["", "a", "\n", "\r\n", "\r", "a\nb\r\nc\rd", "\n\n\r\n\r\r\n", "a\n\r\nb\x85\u2028c"])
def test_an_untouched_text_comes_back_to_the_byte(text: str) -> None:
    assert keep_newlines(text, browsers(text)) == text


def test_untouched_lines_keep_their_newlines_around_two_edits() -> None:
    shown = "a\r\nb\nc\rd\ne\r\nf\n"
    assert keep_newlines(shown, browsers("a\nB\nc\nd\ne2\nf\n")) == "a\r\nB\nc\rd\ne2\r\nf\n"
    assert keep_newlines(shown, browsers("a edited\nand split\nb\nc\nd\ne\nf\n")) == (
        "a edited\nand split\r\nb\nc\rd\ne\r\nf\n"
    )


def test_new_lines_end_as_most_lines_do() -> None:
    assert keep_newlines("a\r\nb\r\nc\n", "a\r\nb\r\nc\r\nnew\r\n") == "a\r\nb\r\nc\nnew\r\n"
    assert keep_newlines("a", "a\r\nb") == "a\nb"


def test_any_edit_leaves_what_was_typed() -> None:
    chance = random.Random(7)
    for _ in range(500):
        shown = "".join(chance.choices(["a", "b", "\n", "\r\n", "\r"], k=chance.randint(0, 40)))
        typed = "".join(chance.choices(["a", "b", "\r\n"], k=chance.randint(0, 40)))
        assert browsers(keep_newlines(shown, typed)) == typed


def test_keeping_newlines_takes_time_in_proportion_to_the_text() -> None:
    def edited(thousands: int) -> None:
        shown = "\n" * 1_000 * thousands + "x\n" * 500 * thousands
        keep_newlines(shown, browsers("y\n" + "\n" * 875 * thousands + "z" + "\nx" * 500 * thousands))

    # Quadratic time would be 64 times as long for 8 times the text.
    assert growth(edited, 1, 8) < 24
