"""Tokens and numbers that are nobody's: one 404 for all of them, whether or not the database is asked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.harness import Tenant
from tests.support.places import UNKNOWN_TOKEN, assert_error

NO_TOKENS = [
    UNKNOWN_TOKEN,
    "0" * 31,
    "0" * 33,
    "A" * 32,
    "g" * 32,
    "٠" * 32,
    "0" * 31 + "%20",
    "0" * 31 + "%00",
    "%ff" * 32,
    "..",
    "*",
    "{0}",
]
NO_NUMBERS = [
    "0",
    "01",
    "-1",
    "+1",
    "1e3",
    "1.0",
    "٣",
    "１",
    "%20",
    "1%20",
    "1%0a",
    "1%00",
    "x",
    str(2**63),
    "9" * 20,
    "9" * 500,
]
ROUTES = ["/applications/{token}", "/applications/{token}/chats", "/applications/{token}/chats/1/messages"]


@pytest.mark.parametrize("route", ROUTES)
def test_every_token_that_is_nobodys_is_the_same_404(ours: Tenant, route: str) -> None:
    answers = set()
    for token in [
        *NO_TOKENS,
        ours.token.upper().replace("0", "A"),
        f"{ours.token}0",
        ours.token[:-1],
        f" {ours.token}",
    ]:
        response = ours.api.get(route.format(token=token))
        assert_error(response, 404, "not_found")
        answers.add(response.content)

    assert len(answers) == 1


def test_every_number_that_is_none_is_the_same_404(ours: Tenant, settle: Callable) -> None:
    ours.chat()
    ours.message(1)
    settle()
    answers = set()

    for number in [*NO_NUMBERS, "2", str(2**63 - 1)]:
        for path in (
            f"/chats/{number}",
            f"/chats/{number}/messages",
            f"/chats/{number}/messages/1",
            f"/chats/1/messages/{number}",
        ):
            response = ours.api.get(f"{ours.path}{path}")
            assert_error(response, 404, "not_found")
            answers.add(response.content)

    assert len(answers) == 1
