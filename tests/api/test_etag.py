"""ETag, If-None-Match and Cache-Control: caches revalidate every response, and revalidation is cheap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.harness import Tenant
from tests.support.places import Place, place_of


@pytest.fixture(params=["item", "list"])
def path(request: pytest.FixtureRequest, place: Place, drained: Callable) -> str:
    """One of the six readable paths."""
    created = place.create("old")
    drained()
    return place.item(created) if request.param == "item" else place.path


def test_whoever_has_the_newest_answer_is_told_so_without_a_body(place: Place, path: str) -> None:
    answer = place.api.get(path)
    etag = answer.headers["ETag"]

    for method in (place.api.get, place.api.head):
        for condition in (etag, f'"other", {etag}', "*"):
            again = method(path, headers={"If-None-Match": condition})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["ETag"] == etag
            assert again.headers["Cache-Control"] == "no-cache"


def test_head_answers_as_get_does_without_a_body(place: Place, path: str) -> None:
    asked = {"X-Request-ID": "the-same"}
    got = place.api.get(path, headers=asked)

    head = place.api.head(path, headers=asked)

    assert (head.status_code, head.content) == (200, b"")
    assert dict(head.headers) == dict(got.headers)
    assert int(head.headers["Content-Length"]) == len(got.content)


def test_answers_must_be_asked_for_again(place: Place, path: str) -> None:
    for response in (place.api.get(path), place.api.head(path), place.send("new"), place.api.get(f"{path}0000")):
        assert response.headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize("kind", ["chat", "message"])
def test_the_etag_changes_with_every_change(kind: str, ours: Tenant, settle: Callable) -> None:
    place = place_of(kind, ours)
    created = place.create("text")
    seen: dict[str, list[Any]] = {place.item(created): [], place.path: []}

    for _ in range(4):
        for path, etags in seen.items():
            answer = place.api.get(path, headers={"If-None-Match": ", ".join(etags)} if etags else {})
            assert answer.status_code == 200
            etags.append(answer.headers["ETag"])
        place.change(created, "text")
        settle()

    assert all(len(set(etags)) == 4 for etags in seen.values())


@pytest.mark.parametrize("kind", ["chat", "message"])
def test_a_lists_etag_changes_when_something_arrives(kind: str, ours: Tenant) -> None:
    place = place_of(kind, ours)
    etag = place.api.get(place.path).headers["ETag"]

    place.create()

    assert place.api.get(place.path, headers={"If-None-Match": etag}).status_code == 200


def test_the_same_entity_has_the_same_etag_undrained_and_drained(place: Place, drained: Callable) -> None:
    path = place.item(place.create("text"))
    etag = place.api.get(path).headers["ETag"]
    drained()

    assert place.api.get(path, headers={"If-None-Match": etag}).status_code == 304
