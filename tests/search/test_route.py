"""`GET /search/<query>` over the API."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest
from pytest_django import Settings
from rest_framework.test import APIClient

from search import outbox
from tests.search.conftest import ON_BOTH, Away
from tests.support.harness import Tenant

pytestmark = ON_BOTH


@pytest.fixture(autouse=True)
def no_hints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.tasks.index_outbox.apply_async", lambda **when: None)


@pytest.fixture
def say(ours: Tenant, theirs: Tenant, drained: object) -> object:
    """Posts the bodies in the first chat of both tenants and indexes them."""
    ours.chat("ours")

    def say(*bodies: str) -> None:
        ours.batch(1, list(bodies))
        theirs.batch(1, list(bodies))
        drained()
        outbox.index()

    return say


def search(api: APIClient, query: str, **params: object) -> dict:
    response = api.get(f"/search/{quote(query, safe='')}", params)
    assert response.status_code == 200, response.content
    return response.json()


def refused(api: APIClient, status: int, query: str = "hello", **params: object) -> str | None:
    """Asserts that the request is rejected. Returns the parameter that the error names."""
    response = api.get(f"/search/{query}", params)
    assert response.status_code == status, response.content
    assert response["Content-Type"] == "application/json"
    return response.json()["errors"][0]["attr"]


def test_a_hit(api: APIClient, ours: Tenant, say: object) -> None:
    say("Élan <b>&</b>")
    answer = search(api, "elan", application=ours.token)
    (hit,) = answer.pop("results")
    assert answer == {"count": 1, "next": None, "previous": None}
    message = ours.get("/chats/1/messages/1")
    assert hit == {
        "application_token": ours.token,
        "chat_number": 1,
        "number": 1,
        "body": "Élan <b>&</b>",
        "highlight": "<em>Élan</em> &lt;b&gt;&amp;&lt;/b&gt;",
        "created_at": message["created_at"],
        "last_request_time": message["last_request_time"],
    }
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", hit["created_at"])


def test_an_update_replaces_the_old_text(api: APIClient, ours: Tenant, say: object, drained: object) -> None:
    say("before")
    api.patch(f"{ours.path}/chats/1/messages/1", {"body": "after"}, format="json")
    drained()
    outbox.index()
    assert search(api, "before", application=ours.token)["count"] == 0
    assert search(api, "after", application=ours.token)["count"] == 1


def test_scopes(api: APIClient, ours: Tenant, theirs: Tenant, say: object) -> None:
    ours.chat("another")
    ours.message(2, "hello there")
    say("hello")
    assert search(api, "hello")["count"] == 3
    assert search(api, "hello", application=ours.token)["count"] == 2
    assert search(api, "hello", application=ours.token, chat=2)["results"][0]["body"] == "hello there"
    (hit,) = search(api, "hello", application=theirs.token)["results"]
    assert hit["application_token"] == theirs.token


def test_what_is_unknown_is_404(api: APIClient, ours: Tenant) -> None:
    assert refused(api, 404, application="0" * 32) is None
    assert refused(api, 404, application="ill-formed") is None
    assert refused(api, 404, application=f'{ours.token}" OR "x') is None
    assert refused(api, 404, application=ours.token.upper() + "x") is None
    assert refused(api, 404, application=f"{ours.token}/1") is None
    assert refused(api, 404, application=ours.token, chat=1) is None
    assert refused(api, 404, application="0" * 32, chat=1) is None


def test_what_makes_no_sense_is_400(api: APIClient, ours: Tenant) -> None:
    ours.chat()
    assert refused(api, 400, chat=1) == "chat"
    assert refused(api, 400, application="") == "application"
    assert refused(api, 400, application=[ours.token, ours.token]) == "application"
    for chat in ("", "0", "-1", "x", "1.0", "٣", str(2**63), "9" * 400, ["1", "1"]):
        assert refused(api, 400, application=ours.token, chat=chat) == "chat"
    for limit in ("", "0", "1001", "-1", "ten", ["1", "1"]):
        assert refused(api, 400, limit=limit) == "limit"
    for cursor in ("", "x", "YWJj", "a:b", "W10:abc", "\x00", ["a", "a"], "é", "x" * 5_000):
        assert refused(api, 400, cursor=cursor) == "cursor"


def test_an_application_that_is_not_stored_yet_is_known(api: APIClient, ours: Tenant) -> None:
    assert search(api, "hello", application=ours.token)["count"] == 0
    ours.chat()
    assert search(api, "hello", application=ours.token, chat=1)["count"] == 0


def test_without_an_application_the_admin_key_is_needed(api: APIClient, ours: Tenant, settings: Settings) -> None:
    settings.ADMIN_API_KEY = "open sesame"
    assert refused(api, 401) is None
    assert api.get("/search/x", headers={"Authorization": "Bearer open sesame"}).status_code == 200
    assert search(api, "hello", application=ours.token)["count"] == 0


def walk(api: APIClient, url: str, link: str) -> list[dict]:
    pages = []
    while url:
        response = api.get(url)
        assert response.status_code == 200, response.content
        pages.append(response.json())
        url = pages[-1][link]
    return pages


@pytest.mark.parametrize(
    "query",
    [
        "same",
        "same 100% #1?",
        "same/../words",
        "same/words",
        "same é 世界 \n&x=y",
    ],
)
def test_pages_walk_both_ways(api: APIClient, ours: Tenant, say: object, query: str) -> None:
    body = f"{query} words x y"
    say(*[body] * 5)
    forwards = walk(api, f"/search/{quote(query, safe='')}?application={ours.token}&limit=2", "next")
    assert [len(page["results"]) for page in forwards] == [2, 2, 1]
    assert [hit["number"] for page in forwards for hit in page["results"]] == [5, 4, 3, 2, 1]
    assert {page["count"] for page in forwards} == {5}
    assert forwards[0]["previous"] is None
    assert urlsplit(forwards[0]["next"]).netloc == "testserver"
    backwards = walk(api, forwards[-1]["previous"], "previous")
    assert [[hit["number"] for hit in page["results"]] for page in backwards] == [[3, 2], [5, 4]]
    assert [hit["number"] for hit in api.get(backwards[-1]["next"]).json()["results"]] == [3, 2]


def test_a_cursor_belongs_to_its_search(
    api: APIClient, ours: Tenant, theirs: Tenant, say: object, settings: Settings
) -> None:
    say("same words", "same words", "same words")
    link = search(api, "same", application=ours.token, limit=1)["next"]
    (cursor,) = parse_qs(urlsplit(link).query)["cursor"]
    assert search(api, "SAME!", application=ours.token, cursor=cursor)["count"] == 3, (
        "the same search, spelled differently"
    )
    assert refused(api, 400, "words", application=ours.token, cursor=cursor) == "cursor"
    assert refused(api, 400, "same", application=theirs.token, cursor=cursor) == "cursor"
    assert refused(api, 400, "same", cursor=cursor) == "cursor"
    assert refused(api, 400, "same", application=ours.token, chat=1, cursor=cursor) == "cursor"
    assert refused(api, 400, "same 世界", application=ours.token, cursor=cursor) == "cursor"
    assert refused(api, 400, "same", application=ours.token, cursor=cursor[:-1]) == "cursor"
    # A cursor of the other backend is invalid too.
    engines = {"tests.search.refreshed.Refreshed", "search.backends.fts5.Fts5Backend"}
    [settings.SEARCH_BACKEND] = engines - {settings.SEARCH_BACKEND}
    assert refused(api, 400, "same", application=ours.token, cursor=cursor) == "cursor"


@pytest.mark.parametrize("chat", [None, 1], ids=["application", "chat"])
def test_links_keep_the_other_parameters(api: APIClient, ours: Tenant, say: object, chat: int | None) -> None:
    say("same", "same", "same")
    scope = {"application": ours.token} | ({} if chat is None else {"chat": str(chat)})
    kept = {**scope, "limit": "1", "mine": "ä &=+"}
    first = search(api, "same", **kept)
    second = api.get(first["next"]).json()

    for link in (first["next"], second["next"], second["previous"]):
        query = dict(parse_qsl(urlsplit(link).query, strict_parsing=True))
        assert query.pop("cursor")
        assert query == kept


def test_a_page_holds_fifty_unless_told_otherwise(api: APIClient, ours: Tenant, say: object) -> None:
    say(*["same"] * 51)

    assert len(search(api, "same", application=ours.token)["results"]) == 50
    assert len(search(api, "same", application=ours.token, limit=1000)["results"]) == 51


@pytest.mark.parametrize("query", ["%", "_", "*", "/", "//", "a/b", "?", "#", "\n", "\x00", '"', "{}[]():", "..", ""])
def test_any_query_is_answered(api: APIClient, ours: Tenant, say: object, query: str) -> None:
    say("hello", "a/b")
    assert search(api, query, application=ours.token)["count"] == (query == "a/b")


@pytest.mark.parametrize("path", ["/search/%FF%FE", "/search/%ED%A0%80", "/search/hello/", "/search/" + "x" * 10_000])
def test_any_path_is_answered(api: APIClient, ours: Tenant, path: str) -> None:
    assert api.get(path).status_code == 200


def test_other_methods_are_405(api: APIClient) -> None:
    for method in ("post", "put", "patch", "delete"):
        response = getattr(api, method)("/search/hello")
        assert response.status_code == 405
        assert "GET" in response["Allow"]


@pytest.mark.parametrize(("bound", "value"), [("HIGHLIGHT_SECONDS", 0.0), ("PAGE_BYTES", 0)])
def test_a_page_that_takes_too_long_is_503_and_a_shorter_one_is_not(
    api: APIClient, ours: Tenant, say: object, monkeypatch: pytest.MonkeyPatch, bound: str, value: float
) -> None:
    # Given hits of which one alone exceeds the limit of a page,
    say("long one", "long two")
    monkeypatch.setattr(f"search.views.{bound}", value)

    # when a page has two, then it is rejected, and the error says what helps:
    response = api.get("/search/long", {"application": ours.token})
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert "'limit'" in response.json()["errors"][0]["detail"]
    # A page of one hit always succeeds.
    page = search(api, "long", application=ours.token, limit=1)
    assert len(page["results"]) == 1
    assert page["next"]


def test_an_index_that_is_away_is_503(api: APIClient, ours: Tenant, away: Away) -> None:
    response = api.get("/search/hello", {"application": ours.token})
    assert response.status_code == 503
    assert int(response["Retry-After"]) >= 1
    assert response.json()["errors"][0]["code"] == "service_unavailable"
