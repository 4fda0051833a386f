"""Errors are JSON in one shape with stable codes, for every status and whatever the client accepts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rest_framework.test import APIClient

from tests.support.harness import Tenant
from tests.support.places import Place, assert_error, each_refuses, nothing_left_behind, refused


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/applications.json",
        "/applications//",
        "/Applications",
        "/%00",
        "/%ff",
        "/api/applications",
        "/..%2f",
    ],
)
def test_an_unknown_route_is_a_404(api: APIClient, path: str) -> None:
    for method in ("GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "NONSENSE"):
        for accept in ("*/*", "text/html", "nonsense"):
            assert_error(api.generic(method, path, headers={"Accept": accept}), 404, "not_found")


@pytest.mark.parametrize(
    ("route", "allowed"),
    [
        ("/applications", "GET, POST, HEAD, OPTIONS"),
        ("{ours}", "GET, PATCH, HEAD, OPTIONS"),
        ("{ours}/chats", "GET, POST, HEAD, OPTIONS"),
        ("{ours}/chats/1", "GET, PATCH, HEAD, OPTIONS"),
        ("{ours}/chats/1/messages", "GET, POST, HEAD, OPTIONS"),
        ("{ours}/chats/1/messages/1", "GET, PATCH, HEAD, OPTIONS"),
        ("/health/live", "GET, HEAD, OPTIONS"),
        ("/health/ready", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_method_that_a_route_does_not_have_is_a_405_that_names_those_it_has(
    ours: Tenant, route: str, allowed: str
) -> None:
    ours.chat()
    ours.message(1)
    path = route.format(ours=ours.path)
    methods = {"PUT", "DELETE", "TRACE", "NONSENSE", "POST", "PATCH"} - set(allowed.split(", "))

    for method in sorted(methods):
        for slash in ("", "/"):
            with nothing_left_behind():
                response = ours.api.generic(method, path + slash, b'{"name": "x"}', "application/json")
            assert_error(response, 405, "method_not_allowed")
            assert sorted(response.headers["Allow"].split(", ")) == sorted(allowed.split(", "))


def test_options_tells_what_a_route_takes(place: Place) -> None:
    for path in (place.path, place.item(place.create())):
        response = place.api.options(path)

        assert response.status_code == 200
        assert response.json()["parses"] == response.json()["renders"] == ["application/json"]
        assert "OPTIONS" in response.headers["Allow"]


def test_there_is_no_way_round_the_method(place: Place) -> None:
    created = place.create("old")

    with nothing_left_behind():
        response = place.api.post(
            place.item(created),
            {place.kind.field: "new", "_method": "PATCH"},
            format="json",
            headers={"X-HTTP-Method-Override": "PATCH"},
        )

    assert_error(response, 405, "method_not_allowed")


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "text/*",
        "application/xml",
        "nonsense",
        "application/json2",
        ";;;",
        "text/html; a*=nonsense''x",
        "é",
    ],
)
def test_a_client_that_does_not_accept_json_is_told_so_in_json(places: list[Place], accept: str) -> None:
    headers = {"Accept": accept}

    each_refuses(places, lambda place: place.send("text", **headers), 406, "not_acceptable")
    for place in places:
        assert_error(place.api.get(place.path, headers=headers), 406, "not_acceptable")
        created = place.create("old")
        with nothing_left_behind():
            response = place.api.patch(place.item(created), {place.kind.field: "new"}, format="json", headers=headers)
        assert_error(response, 406, "not_acceptable")


@pytest.mark.parametrize(
    "accept",
    [
        "*/*",
        "application/*",
        "application/json",
        "APPLICATION/JSON",
        "text/html, */*;q=0.1",
        "application/json; charset=utf-8",
    ],
)
def test_whoever_accepts_json_among_others_gets_it(places: list[Place], accept: str) -> None:
    for place in places:
        response = place.send("text", Accept=accept)

        assert response.status_code == 201
        assert response.headers["Content-Type"].startswith("application/json")


@pytest.mark.parametrize(
    "query", ["format=xml", "format=json", "format=", "_method=x", "page=7", "offset=-1", "x=%ff&%00=%00", "&&&=&"]
)
def test_parameters_that_mean_nothing_here_are_ignored(places: list[Place], query: str) -> None:
    for place in places:
        assert place.api.get(f"{place.path}?{query}").status_code == 200
        body = {place.kind.field: "text"}
        assert place.api.post(f"{place.path}?{query}", body, format="json").status_code == 201


def test_more_parameters_than_anyone_means_are_refused(place: Place) -> None:
    assert_error(place.api.get(f"{place.path}?{'&' * 1001}"), 400, "parse_error")


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "text/json",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "multipart/form-data",
        "application/json2",
        "application/vnd.api+json",
        "json",
        "nonsense",
        "*/*",
        "application/*",
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/json; charset=zlib",
        "application/json; charset=rot13",
        "application/json; charset=base64",
        "application/json; charset=idna",
        "application/json; charset=undefined",
        "application/json; charset=utf-7",
        "application/json; charset=utf-8-sig",
        "application/json; charset=",
        "application/json; charset=nonsense",
        "application/json; charset=é",
    ],
)  # fmt: skip
def test_what_is_not_json_in_utf_8_is_refused_by_its_content_type(places: list[Place], content_type: str) -> None:
    def send(place: Place) -> Any:
        return place.send_raw(json.dumps({place.kind.field: "text"}).encode(), content_type)

    each_refuses(places, send, 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "gzip, identity", "identity, gzip", "nonsense"])
def test_a_body_in_a_coding_that_is_not_decoded_is_refused(places: list[Place], coding: str) -> None:
    def send(place: Place) -> Any:
        return place.send("text", **{"Content-Encoding": coding})

    each_refuses(places, send, 415, "unsupported_media_type")


@pytest.mark.parametrize("coding", ["", "identity", "Identity"])
def test_a_body_that_says_it_is_not_coded_is_accepted(place: Place, coding: str) -> None:
    assert place.send("text", **{"Content-Encoding": coding}).status_code == 201


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "APPLICATION/JSON",
        "application/json; charset=utf-8",
        'application/json; charset="utf-8"',
        "application/json;charset=UTF-8",
        "application/json; CHARSET=utf8",
        "application/json; charset=us-ascii",
        "application/json; version=1",
        "application/json;",
    ],
)
def test_json_in_utf_8_is_accepted_however_its_content_type_is_spelt(places: list[Place], content_type: str) -> None:
    for place in places:
        content = json.dumps({place.kind.field: "é😀"}, ensure_ascii=False).encode()

        response = place.send_raw(content, content_type)

        assert response.status_code == 201
        assert response.json()[place.kind.field] == "é😀"


def body_of(place: Place, size: int) -> bytes:
    """Returns a valid request of that many bytes."""
    bare = json.dumps({place.kind.field: "text", "ignored": ""}).encode()
    return bare[:-2] + b"x" * (size - len(bare)) + b'"}'


def test_a_request_of_four_megabytes_is_accepted(place: Place) -> None:
    content = body_of(place, 4 * 1024 * 1024)
    assert len(content) == 4_194_304

    assert place.send_raw(content).status_code == 201


def test_a_request_of_one_byte_more_is_refused(place: Place) -> None:
    content = body_of(place, 4 * 1024 * 1024 + 1)

    refused(place, lambda place: place.send_raw(content), 413, "payload_too_large")
    refused(place, lambda place: place.send_raw(b"[" * 5_000_000), 413, "payload_too_large")


def test_a_change_of_more_than_four_megabytes_is_refused(place: Place) -> None:
    created = place.create("old")

    with nothing_left_behind():
        response = place.api.generic("PATCH", place.item(created), body_of(place, 5_000_000), "application/json")

    assert_error(response, 413, "payload_too_large")


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example", "", "a b", "[::2]", "é"])
def test_a_foreign_host_is_refused(place: Place, host: str) -> None:
    with nothing_left_behind():
        assert_error(place.send("text", Host=host), 400, "bad_request")
        assert_error(place.api.get(place.path, headers={"Host": host, "Accept": "text/html"}), 400, "bad_request")
        assert_error(place.api.get("/nowhere", headers={"Host": host}), 400, "bad_request")


def test_a_host_that_a_proxy_claims_is_not_believed(place: Place) -> None:
    response = place.send("text", **{"X-Forwarded-Host": "evil.example"})

    assert response.headers["Location"].startswith("http://testserver/")


class Fault(Exception):
    """An exception that no handler expects."""


def test_a_fault_of_ours_is_a_500_that_tells_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    created = place.create()

    def fail(*args: object, **kwargs: object) -> Any:
        raise Fault("secret")

    monkeypatch.setattr("chatsystem.api.viewsets.EntityViewSet.represent", fail)

    for accept in ("*/*", "application/json"):
        response = place.api.get(place.item(created), headers={"Accept": accept})
        answer = assert_error(response, 500, "error")
        assert "secret" not in json.dumps(answer)
        assert "Fault" not in json.dumps(answer)


def test_a_fault_outside_of_any_view_is_a_500_in_json_too(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object, **kwargs: object) -> Any:
        raise Fault("secret")

    monkeypatch.setattr("django.middleware.common.CommonMiddleware.process_request", fail)

    answer = assert_error(api.get("/applications"), 500, "error")

    assert "secret" not in json.dumps(answer)


@pytest.mark.parametrize(
    "accept",
    [
        "application/json;q=0.9",
        "text/html, application/json;q=0.9, */*;q=0.8",
        "application/json; charset=utf-16",
        "application/json; indent=4",
        "application/*;q=0.5",
    ],
    ids=["quality", "browser", "charset", "indent", "any-application"],
)
def test_what_accept_says_beside_json_changes_no_answer(place: Place, accept: str) -> None:
    item = place.item(place.create("Élan"))

    for path in (item, place.path, f"{place.path}?limit=1000"):
        plain = place.api.get(path)
        # Twice: a page of messages may come from the cache.
        for _ in range(2):
            answer = place.api.get(path, headers={"Accept": accept})
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.content == plain.content
