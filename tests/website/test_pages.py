"""The landing page and the demo, as the server sends them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.http import HttpResponse
from rest_framework.test import APIClient

from chatsystem.monitoring import health
from tests.support.places import local
from tests.support.product import BASE_DIR

#: What Firefox sends.
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
SECRET = "a-secret-key-that-nobody-may-see"


def visit(api: APIClient, path: str = "/", accept: str = BROWSER) -> HttpResponse:
    response: HttpResponse = api.get(path, headers={"Accept": accept})
    return response


@pytest.mark.parametrize(
    "accept",
    ["*/*", "application/json", "", "application/json, text/html;q=0.9", "image/png", "text/html; x*=bogus'en'%ff"],
)
def test_who_is_no_browser_gets_the_links(api: APIClient, accept: str, settings: Any) -> None:
    answer = visit(api, accept=accept)

    assert answer.status_code == 200
    assert set(answer.json()) == {"health", "docs", "openapi", "admin"}
    assert answer.headers["Vary"] == "Accept"
    for url in answer.json().values():
        assert api.get(local(url)).status_code in (200, 302, 503), url

    settings.DEMO = True
    assert visit(api, accept=accept).json()["demo"].endswith("/demo")


def test_a_browser_gets_the_words_of_readiness_and_links_that_lead_somewhere(api: APIClient, settings: Any) -> None:
    settings.DEMO = True
    page = visit(api).content.decode()

    states = api.get("/health/ready").json()["dependencies"]
    shown = dict(re.findall(r"<dt>(.+?)</dt><dd>(.+?)</dd>", page))
    assert shown == states
    links = re.findall(r'href="([^"]+)"', page)
    assert {"/demo", "/docs", "/admin/", "/openapi.json"} <= set(links)
    for link in links:
        answer = api.get(link)
        answer.close()
        assert answer.status_code in (200, 302), link


def test_the_landing_page_is_there_while_nothing_is_accepted(api: APIClient, monkeypatch: pytest.MonkeyPatch) -> None:
    states = {"state": "down: LogUnavailable (ConnectionError)", "database": "ok"}
    monkeypatch.setattr(health, "dependencies", lambda: states)

    answer = visit(api)

    assert answer.status_code == 200
    assert 'data-status="unavailable"' in answer.content.decode()
    assert "down: LogUnavailable (ConnectionError)" in answer.content.decode()


@pytest.mark.parametrize("path", ["/", "/demo"])
def test_a_page_tells_no_secret_and_has_nothing_inline(api: APIClient, path: str, settings: Any) -> None:
    settings.DEMO, settings.ADMIN_API_KEY, settings.SECRET_KEY = True, SECRET, SECRET

    answer = visit(api, path)
    page = answer.content.decode()

    assert answer.status_code == 200
    for secret in (SECRET, str(settings.DATA_DIR), settings.REDIS_URL, str(settings.DATABASES["default"]["NAME"])):
        assert secret not in page
    assert not re.findall(r"<style\b|\sstyle=|\son[a-z]+=|javascript:", page)
    assert all("src=" in script for script in re.findall(r"<script\b[^>]*>", page))
    assert all(url.startswith("/") for url in re.findall(r'\b(?:src|href|action)="([^"]+)"', page))
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self';")
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    # The 304 of a second visit has the policy of its page.
    again = api.get(path, headers={"Accept": BROWSER, "If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.headers["Content-Security-Policy"]) == (304, policy)


@pytest.mark.parametrize("path", ["/demo", "/demo/"])
def test_the_demo_is_there_only_where_it_is_switched_on(api: APIClient, path: str, settings: Any) -> None:
    assert visit(api, path).content == visit(api, "/nowhere").content
    assert "/demo" not in visit(api).content.decode()

    settings.DEMO = True

    assert "Live demo" in visit(api, path).content.decode()


def test_with_an_admin_key_the_demo_asks_for_a_token(api: APIClient, settings: Any) -> None:
    settings.DEMO = True
    assert 'id="create-application"' in visit(api, "/demo").content.decode()

    settings.ADMIN_API_KEY = SECRET

    page = visit(api, "/demo").content.decode()
    assert 'id="create-application"' not in page
    assert 'id="open-application"' in page


@pytest.mark.parametrize("path", ["/", "/demo"])
def test_any_other_method_is_refused_in_json(api: APIClient, path: str, settings: Any) -> None:
    settings.DEMO = True

    refused = api.post(path, headers={"Accept": BROWSER})

    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (405, "method_not_allowed")
    assert api.head(path, headers={"Accept": BROWSER}).status_code == 200


def test_the_demo_is_written_on_the_client_of_the_examples_and_sets_no_html(api: APIClient) -> None:
    """One copy: the served file is a link to it, also in the image."""
    answer = api.get("/static/website/chat-client.js")

    assert b"".join(answer) == (BASE_DIR / "examples/chat-client.js").read_bytes()
    answer.close()
    html = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(")
    scripts = list((BASE_DIR / "chatsystem/website/static/website").glob("*.js"))
    assert len(scripts) == 4
    assert [script.name for script in scripts if html.search(script.read_text())] == []
