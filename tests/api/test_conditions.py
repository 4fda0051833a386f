"""Conditional requests and ranges as in RFC 9110. Errors are JSON, and a page keeps its policy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client as DjangoClient

from chatsystem.api.middleware import POLICY_OF_PAGES
from chatsystem.api.openapi.views import CONTENT_SECURITY_POLICY
from tests.support.harness import Tenant
from tests.support.places import Place, assert_error, nothing_left_behind

PAST, FUTURE = "Sun, 06 Nov 1994 08:49:37 GMT", "Fri, 31 Dec 2126 23:59:59 GMT"
CSS = "/static/admin/css/base.css"
#: A static file of an installed package.
STATIC_PAGE = "/static/drf_spectacular_sidecar/swagger-ui-dist/oauth2-redirect.html"


class Reader(DjangoClient):
    """Reads each response to its end, as `body`, because a file stays open until then."""

    def request(self, **request: Any) -> Any:
        answer: Any = super().request(**request)
        answer.body = b"".join(answer)
        answer.close()
        return answer


@pytest.fixture
def browser() -> Reader:
    return Reader(raise_request_exception=False)


@pytest.mark.parametrize("method", ["get", "head"])
def test_a_read_of_another_version_than_if_match_names_is_412(place: Place, method: str) -> None:
    path = place.item(place.create("text"))
    etag = place.api.get(path).headers["ETag"]
    ask = getattr(place.api, method)

    for match in ("*", etag, f'"other", {etag}'):
        assert ask(path, headers={"If-Match": match}).status_code == 200
    refused = ask(path, headers={"If-Match": '"other"'})

    assert (refused.status_code, refused.headers["Content-Type"]) == (412, "application/json")
    if method == "get":
        assert_error(refused, 412, "precondition_failed")
    else:
        assert refused.content == b""


@pytest.mark.parametrize(
    "headers",
    [
        {"If-Modified-Since": FUTURE},
        {"If-Unmodified-Since": PAST},
        {"If-Unmodified-Since": "nonsense"},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=0-0", "If-Range": '"other"'},
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value)),
)
def test_conditions_on_a_date_that_nothing_has_and_ranges_are_ignored(place: Place, headers: dict[str, str]) -> None:
    path = place.item(place.create("text"))
    plain = place.api.get(path)

    answer = place.api.get(path, headers=headers)

    assert (answer.status_code, answer.content) == (200, plain.content)


def test_if_none_match_wins_over_if_modified_since(place: Place) -> None:
    path = place.item(place.create("text"))
    conditions = {"If-None-Match": '"other"', "If-Modified-Since": FUTURE}

    assert place.api.get(path, headers=conditions).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"If-Match": '"other"'}, {"If-None-Match": "*"}, {"If-None-Match": '"x"'}],
    ids=lambda value: re.sub(r"\W+", "-", str(value)),
)
def test_a_write_that_depends_on_a_version_is_refused(place: Place, headers: dict[str, str]) -> None:
    created = place.create("text")
    path = place.item(created)

    with nothing_left_behind():
        assert_error(place.send("new", **headers), 412, "precondition_failed")
        changed = place.api.patch(path, {place.kind.field: "new"}, format="json", headers=headers)
        assert_error(changed, 412, "precondition_failed")
    assert place.api.get(path).json() == created


@pytest.mark.parametrize("headers", [{"If-Match": "*"}, {"If-Modified-Since": FUTURE}, {"If-Unmodified-Since": PAST}])
def test_a_write_is_done_whose_condition_holds_or_does_not_count(place: Place, headers: dict[str, str]) -> None:
    created = place.send("text", **headers)
    assert created.status_code == 201

    changed = place.api.patch(place.item(created.json()), {place.kind.field: "new"}, format="json", headers=headers)

    assert changed.status_code == 200


def test_a_condition_does_not_turn_another_error_into_412(ours: Tenant) -> None:
    for headers in ({"If-Match": '"other"'}, {"If-None-Match": "*"}):
        assert ours.api.get("/nowhere", headers=headers).status_code == 404
        assert ours.api.get(f"{ours.path}/chats/7", headers=headers).status_code == 404
        assert ours.api.put(ours.path, {}, format="json", headers=headers).status_code == 405


@pytest.mark.parametrize(
    ("path", "policy"),
    [("/docs", CONTENT_SECURITY_POLICY), (STATIC_PAGE, POLICY_OF_PAGES)],
)
def test_the_304_of_a_page_has_the_policy_of_the_page(browser: Reader, path: str, policy: str) -> None:
    for method in (browser.get, browser.head):
        whole = method(path)
        again = method(path, headers={"If-None-Match": whole.headers["ETag"]})

        assert (whole.status_code, again.status_code) == (200, 304)
        assert whole.headers["Content-Security-Policy"] == again.headers["Content-Security-Policy"] == policy


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"other", {etag}'}, 304),
        ({"If-None-Match": "W/{etag}"}, 304),
        ({"If-None-Match": '"other"'}, 200),
        ({"If-Modified-Since": FUTURE}, 304),
        ({"If-Modified-Since": PAST}, 200),
        ({"If-Unmodified-Since": FUTURE}, 200),
        ({"If-Unmodified-Since": PAST}, 412),
        ({"If-Match": "{etag}"}, 200),
        ({"If-Match": '"other"'}, 412),
    ],
    ids=lambda value: re.sub(r"\W+", "-", str(value)),
)
def test_a_file_takes_every_condition(browser: Reader, headers: dict[str, str], status: int) -> None:
    etag = browser.get(CSS).headers["ETag"]

    answer = browser.get(CSS, headers={name: value.replace("{etag}", etag) for name, value in headers.items()})

    assert answer.status_code == status
    if status == 412:
        assert_error(answer, 412, "precondition_failed")


@pytest.mark.parametrize(
    ("asked", "status", "there"),
    [
        ("bytes=0-0", 206, slice(0, 1)),
        ("bytes=5-5", 206, slice(5, 6)),
        ("bytes=5-9", 206, slice(5, 10)),
        ("bytes=5-", 206, slice(5, None)),
        ("bytes=-1", 206, slice(-1, None)),
        ("bytes=0-99999999", 206, slice(None)),
        ("bytes=-99999999", 206, slice(None)),
        ("bytes=99999999-", 416, None),
        ("bytes=-0", 416, None),
        # Invalid or multiple ranges are ignored.
        ("bytes=9-5", 200, slice(None)),
        ("bytes=-", 200, slice(None)),
        ("bytes=0-0,5-5", 200, slice(None)),
        ("lines=0-0", 200, slice(None)),
    ],
)
def test_a_range_of_a_file_is_answered(browser: Reader, asked: str, status: int, there: slice | None) -> None:
    whole = browser.get(CSS).body

    answer = browser.get(CSS, headers={"Range": asked})

    assert answer.status_code == status
    if there is None:
        assert_error(answer, 416, "range_not_satisfiable")
        assert answer.headers["Content-Range"] == f"bytes */{len(whole)}"
        return
    assert answer.body == whole[there]
    assert answer.headers["Content-Length"] == str(len(answer.body))
    if status == 206:
        first = there.indices(len(whole))[0]
        assert answer.headers["Content-Range"] == f"bytes {first}-{first + len(answer.body) - 1}/{len(whole)}"


def test_a_range_counts_only_for_the_version_that_it_was_begun_with(browser: Reader) -> None:
    known = browser.get(CSS).headers
    first = {"Range": "bytes=0-0"}

    for version in (known["ETag"], known["Last-Modified"]):
        assert browser.get(CSS, headers={**first, "If-Range": version}).status_code == 206
    for version in ('"other"', f"W/{known['ETag']}", PAST):
        assert browser.get(CSS, headers={**first, "If-Range": version}).status_code == 200
    # Only GET has ranges.
    assert browser.head(CSS, headers=first).status_code == 200


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete", "options"])
def test_another_method_on_a_file_is_405_in_json(browser: Reader, method: str) -> None:
    refused = getattr(browser, method)(CSS)

    assert_error(refused, 405, "method_not_allowed")
    assert refused.headers["Allow"] == "GET, HEAD"


def test_a_file_that_is_not_there_is_404_in_json(browser: Reader) -> None:
    for path in ("/static/nothing.css", "/static/", "/static", "/static/admin/"):
        assert_error(browser.get(path), 404, "not_found")


def test_the_admin_is_found_without_its_slash(browser: Reader) -> None:
    answer = browser.get("/admin?x=y")

    assert (answer.status_code, answer.headers["Location"]) == (302, "/admin/?x=y")
