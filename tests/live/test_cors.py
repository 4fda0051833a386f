"""CORS_ORIGINS: pages of listed origins may use the API from a browser. No others may, and never operators' pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client as DjangoClient
from rest_framework.test import APIClient

from chatsystem.api import cors, rate_limit
from chatsystem.api.cors import cors_headers, preflight_headers
from tests.openapi.conftest import description  # noqa: F401  (a fixture)
from tests.support.harness import Tenant
from tests.support.places import UNKNOWN_TOKEN

LISTED = "https://app.example.com"
ALSO_LISTED = "http://localhost:5173"
#: Near misses of a listed one.
FOREIGN = [
    "https://elsewhere.example",
    "http://app.example.com",
    "https://app.example.com:8443",
    "https://app.example.com.elsewhere.example",
    "https://sub.app.example.com",
    "https://app.example.com/",
    "null",
    "*",
    "",
]
#: What a browser shows to a page without being told to.
SAFELISTED = {"Cache-Control", "Content-Language", "Content-Length", "Content-Type", "Expires", "Last-Modified"}


@pytest.fixture
def listing(settings: Any) -> None:
    settings.CORS_ORIGINS = [LISTED, ALSO_LISTED]


@pytest.fixture
def page(listing: None, ours: Tenant) -> Tenant:
    """Ours with a chat, used by a page of a listed origin."""
    ours.chat()
    ours.api = APIClient(raise_request_exception=False, headers={"Origin": LISTED})
    return ours


def allowed(answer: HttpResponse) -> str | None:
    return answer.headers.get("Access-Control-Allow-Origin")


def answers(tenant: Tenant) -> dict[str, HttpResponse]:
    """Returns one response of each kind."""
    api, one = tenant.api, tenant.api.get(f"{tenant.path}/chats/1")
    return {
        "200": one,
        "201": api.post(f"{tenant.path}/chats", {"title": "x"}, format="json"),
        "201 of a ticket": api.post(f"{tenant.path}/tickets", {}, format="json"),
        "304": api.get(f"{tenant.path}/chats/1", headers={"If-None-Match": one.headers["ETag"]}),
        "400": api.post(f"{tenant.path}/chats", {}, format="json"),
        "400 of Django": api.get(tenant.path, headers={"Host": "elsewhere"}),
        "404": api.get(f"/applications/{UNKNOWN_TOKEN}"),
        "404 of Django": api.get("/applications/x"),
        "405": api.put(tenant.path, {}, format="json"),
        "406": api.get(tenant.path, headers={"Accept": "text/html"}),
        "412": api.get(tenant.path, headers={"If-Match": '"other"'}),
        "a list": api.get(f"{tenant.path}/chats/1/messages"),
        "a search": api.get(f"/search/x?application={tenant.token}"),
        "HEAD": api.head(tenant.path),
        "OPTIONS that is no preflight": api.options(tenant.path),
        "a stream": api.get("/events", {"ticket": "x"}),
        "a poll": api.get(f"{tenant.path}/events", headers={"Accept": "application/json"}),
        "health": api.get("/health/live"),
        "the description": api.get("/openapi.json"),
    }


def test_a_listed_page_may_read_every_answer_of_the_api(page: Tenant) -> None:
    found = answers(page)

    assert {name: str(answer.status_code) for name, answer in found.items() if name[:3].isdigit()} == {
        name: name[:3] for name in found if name[:3].isdigit()
    }
    assert {name: allowed(answer) for name, answer in found.items()} == dict.fromkeys(found, LISTED)
    assert {name for name, answer in found.items() if "Origin" not in answer.headers["Vary"]} == set()
    exposed = {answer.headers["Access-Control-Expose-Headers"] for answer in found.values()}
    assert exposed == {cors.EXPOSED}


@pytest.mark.parametrize("path", ["/applications/{token}/chats", "/events", "/search/x", "/applications"])
def test_no_answer_allows_credentials(page: Tenant, path: str) -> None:
    for method in ("get", "options", "post"):
        answer = getattr(page.api, method)(path.format(token=page.token))

        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert allowed(answer) == LISTED


@pytest.mark.parametrize("origin", FOREIGN)
def test_no_other_page_may_read_anything(page: Tenant, origin: str) -> None:
    page.api = APIClient(raise_request_exception=False, headers={"Origin": origin})

    for name, answer in answers(page).items():
        assert [header for header in answer.headers if header.startswith("Access-Control-")] == [], name
        # A shared cache must not give this answer to a listed page.
        assert "Origin" in answer.headers["Vary"], name
    assert preflight(page.api, page.path, origin).status_code == 200
    assert allowed(preflight(page.api, page.path, origin)) is None


def test_without_an_origin_an_answer_only_varies(page: Tenant) -> None:
    page.api = APIClient(raise_request_exception=False)

    for name, answer in answers(page).items():
        assert allowed(answer) is None, name
        assert "Origin" in answer.headers["Vary"], name


def test_each_listed_origin_gets_its_own_name(page: Tenant) -> None:
    for origin in (LISTED, ALSO_LISTED):
        assert allowed(page.api.get(page.path, headers={"Origin": origin})) == origin


def test_every_header_of_the_api_is_exposed(description: dict[str, Any]) -> None:  # noqa: F811
    described = {
        name
        for item in description["paths"].values()
        for operation in item.values()
        for answer in operation["responses"].values()
        for name in answer.get("headers", {})
    }
    described |= {
        name for answer in description["components"]["responses"].values() for name in answer.get("headers", {})
    }

    assert len(described) > 8
    assert described - SAFELISTED <= set(cors.EXPOSED.split(", "))
    # Lists carry it beside their links (docs/live.md).
    assert "Stream-Position" in cors.EXPOSED


# Preflights.


def preflight(api: APIClient, path: str, origin: str = LISTED, method: str = "POST", **headers: str) -> HttpResponse:
    asked = {"Origin": origin, "Access-Control-Request-Method": method, **headers}
    return api.options(path, headers=asked)


@pytest.mark.parametrize(
    "path", ["/applications", "/applications/x", "/applications/{t}/tickets", "/search/x", "/events"]
)
def test_a_preflight_of_a_listed_page_allows_what_the_api_has(page: Tenant, path: str) -> None:
    answer = preflight(page.api, path.format(t=page.token), **{"Access-Control-Request-Headers": "idempotency-key"})

    assert (answer.status_code, answer.content) == (204, b"")
    assert allowed(answer) == LISTED
    assert answer.headers["Vary"] == "Origin"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    assert answer.headers["X-Request-ID"]


def test_a_preflight_allows_each_method_and_header_of_the_api(
    listing: None,
    description: dict[str, Any],  # noqa: F811
) -> None:
    operations = [(method, said) for item in description["paths"].values() for method, said in item.items()]
    taken = {each["name"] for _, said in operations for each in said["parameters"] if each["in"] == "header"}
    answer = preflight_headers(LISTED)
    assert answer is not None

    assert {method.upper() for method, _ in operations} <= set(answer["Access-Control-Allow-Methods"].split(", "))
    assert {*taken, "Content-Type", "Authorization"} <= set(answer["Access-Control-Allow-Headers"].split(", "))


def test_a_preflight_takes_nothing_from_the_rate_limit(page: Tenant, settings: Any) -> None:
    settings.RATE_LIMIT, settings.RATE_LIMIT_BURST = 0.001, 1
    api = APIClient(raise_request_exception=False)
    rate_limit.fill(page.token)

    for _ in range(3):
        assert preflight(api, f"{page.path}/tickets").status_code == 204

    for status in (200, 429):
        answer = api.get(page.path, headers={"Origin": LISTED})
        assert (answer.status_code, allowed(answer)) == (status, LISTED)


# Where it never applies.


@pytest.mark.parametrize(
    "path",
    ["/admin", "/admin/", "/admin/login/", "/admin/operations/", "/metrics", "/docs", "/static/admin/css/base.css"],
)
def test_pages_of_operators_are_never_shared(page: Tenant, path: str) -> None:
    client = DjangoClient(raise_request_exception=False)
    for answer in (
        client.get(path, headers={"Origin": LISTED}),
        client.options(path, headers={"Origin": LISTED, "Access-Control-Request-Method": "GET"}),
    ):
        answer.close()
        assert answer.status_code != 204
        assert [name for name in answer.headers if name.startswith("Access-Control-")] == []


def test_without_the_setting_nothing_changes(ours: Tenant) -> None:
    ours.chat()
    ours.api = APIClient(raise_request_exception=False, headers={"Origin": LISTED})

    for name, answer in answers(ours).items():
        assert [header for header in answer.headers if header.startswith("Access-Control-")] == [], name
        assert "Origin" not in answer.headers.get("Vary", ""), name
    assert preflight(ours.api, ours.path).status_code == 200
    assert cors_headers(LISTED) == cors_headers(None) == {}
    assert preflight_headers(LISTED) is None
