"""GET /applications: all applications, newest last, by an opaque cursor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from rest_framework.test import APIClient

from chatsystem.api.pagination import AFTER, Cursors
from tests.support.harness import Tenant, drain_all
from tests.support.places import Place, assert_error, local, place_of


@pytest.fixture
def applications(api: APIClient) -> Place:
    return place_of("application", Tenant(api, ""))


def names(answer: dict[str, Any]) -> list[str]:
    return [application["name"] for application in answer["results"]]


def page(applications: Place, **params: object) -> dict[str, Any]:
    response = applications.api.get(applications.path, params)
    assert response.status_code == 200, response.content
    assert list(response.json()) == ["next", "previous", "results"]
    return response.json()


def walk(applications: Place, answer: dict[str, Any], link: str) -> Iterator[dict[str, Any]]:
    while answer[link]:
        answer = applications.api.get(local(answer[link])).json()
        yield answer


def fill(applications: Place, first: int, last: int) -> list[str]:
    names = [str(i) for i in range(first, last + 1)]
    for name in names:
        applications.create(name)
    return names


def test_without_applications_the_list_is_empty(applications: Place) -> None:
    assert page(applications) == {"next": None, "previous": None, "results": []}


def test_stored_applications_are_listed_newest_last(applications: Place, drained: Callable) -> None:
    created = [applications.create(name) for name in "abc"]
    drained()

    assert page(applications) == {"next": None, "previous": None, "results": created}


def test_the_list_shows_the_newest_stored_name(applications: Place, drained: Callable) -> None:
    created = applications.create("old")
    drained()
    changed = applications.change(created, "new")
    drained()

    assert page(applications)["results"] == [changed]


def test_a_page_holds_fifty_unless_told_otherwise(applications: Place, drained: Callable) -> None:
    every = fill(applications, 1, 51)
    drained()

    assert names(page(applications)) == every[:50]
    assert names(page(applications, limit=1)) == every[:1]
    assert names(page(applications, limit=1000)) == every


def test_links_walk_to_the_end_and_back_without_repeat_or_skip(applications: Place, drained: Callable) -> None:
    every = fill(applications, 1, 7)
    drained()

    for limit in (1, 2, 3, 7, 8):
        pages = [page(applications, limit=limit)]
        pages += walk(applications, pages[0], "next")
        assert [name for answer in pages for name in names(answer)] == every
        assert pages[0]["previous"] is None
        back = [pages[-1], *walk(applications, pages[-1], "previous")]
        assert [name for answer in back[::-1] for name in names(answer)] == every
        assert len(back) == len(pages)


def test_a_walk_meets_each_application_once_while_applications_arrive(applications: Place, drained: Callable) -> None:
    every = fill(applications, 1, 14)
    drained()
    answer = page(applications, limit=2)
    seen = names(answer)

    for turn in range(6):
        every.append(applications.create(f"arrived {turn}")["name"])
        if turn % 2:
            drain_all()
        answer = applications.api.get(local(answer["next"])).json()
        seen += names(answer)
    drain_all()
    pages = [answer, *walk(applications, answer, "next")]
    for step in pages[1:]:
        seen += names(step)

    assert seen == every
    back = [pages[-1], *walk(applications, pages[-1], "previous")]
    assert [name for step in back[::-1] for name in names(step)] == every


def test_an_application_is_not_listed_before_an_older_one_can_be(applications: Place, drained: Callable) -> None:
    """Partitions drain in any order. If a newer application were listed first, a walk would skip the older one."""
    from chatsystem.writelog.drain import drain
    from chatsystem.writelog.keys import partition_of

    older = applications.create("older")
    while True:
        newer = applications.create("newer")
        if partition_of(newer["token"]) != partition_of(older["token"]):
            break
    drain([partition_of(newer["token"])])
    assert "newer" not in names(page(applications))

    drained()

    assert names(page(applications))[0] == "older"
    assert "newer" in names(page(applications))


def test_links_keep_the_other_parameters_and_the_clients_host(applications: Place, drained: Callable) -> None:
    fill(applications, 1, 3)
    drained()

    response = applications.api.get("/applications/", {"limit": 1, "mine": "ä &="}, headers={"Host": "localhost:99"})

    link = urlsplit(response.json()["next"])
    assert (link.scheme, link.netloc, link.path) == ("http", "localhost:99", "/applications/")
    query = parse_qs(link.query, strict_parsing=True)
    assert query.pop("cursor")
    assert query == {"limit": ["1"], "mine": ["ä &="]}


CURSOR = Cursors("applications").write(AFTER, [1, 1])


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "after",
        "====",
        "é",
        "\0",
        CURSOR.partition(":")[0],
        f"x{CURSOR}",
        CURSOR[:-1],
        f"{CURSOR}:x",
        Cursors("numbers").write(AFTER, 1),
        Cursors("search").write(AFTER, [1, 1]),
        "_" * 4000,
    ],
    # A cursor is signed with a key that each test process makes; a test's name has to be the same in all.
    ids=lambda cursor: ascii(cursor)[:10],
)
def test_a_broken_cursor_is_refused_by_name(applications: Place, cursor: str) -> None:
    assert_error(applications.api.get("/applications", {"cursor": cursor}), 400, "invalid", "cursor")


def test_a_limit_that_is_none_is_refused_by_name(applications: Place) -> None:
    for value in ("0", "-1", "1001", "abc", "", "1e3", "٣", str(2**63)):
        assert_error(applications.api.get("/applications", {"limit": value}), 400, "invalid", "limit")


@pytest.mark.parametrize("name", ["limit", "cursor"])
def test_a_repeated_parameter_is_refused_by_name(applications: Place, name: str) -> None:
    assert_error(applications.api.get(f"/applications?{name}=1&{name}=1"), 400, "invalid", name)
