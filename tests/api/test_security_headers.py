"""Security headers of every response. Documented in docs/security.md."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.test import Client as DjangoClient

from chatsystem.api.middleware import POLICY_OF_DATA, POLICY_OF_PAGES
from search import outbox
from tests.backoffice.conftest import HIDDEN, Browser, browser  # noqa: F401  (a fixture)
from tests.support.harness import RealRedis, Tenant, drain_all
from tests.support.places import UNKNOWN_TOKEN, local
from tests.support.wire import Client, Server, request

PAGES = ["login/", "", "applications/application/", "chats/chat/", "messages_app/message/", "writelog/deadevent/"]


@pytest.fixture
def answers(ours: Tenant) -> dict[str, HttpResponse]:
    """Returns one response of each kind, valid and invalid."""
    ours.chat()
    one = ours.api.get(f"{ours.path}/chats/1")
    return {
        "200": one,
        "201": ours.api.post(f"{ours.path}/chats", {"title": "<script>"}, format="json"),
        "304": ours.api.get(f"{ours.path}/chats/1", headers={"If-None-Match": one.headers["ETag"]}),
        "400": ours.api.post(f"{ours.path}/chats", {}, format="json"),
        "400 of Django": ours.api.get(ours.path, headers={"Host": "elsewhere"}),
        "404": ours.api.get(f"/applications/{UNKNOWN_TOKEN}"),
        "404 of Django": ours.api.get("/nowhere"),
        "405": ours.api.put(ours.path, {}, format="json"),
        "406": ours.api.get(ours.path, headers={"Accept": "text/html"}),
        "a page of messages": ours.api.get(f"{ours.path}/chats/1/messages"),
        "a search": ours.api.get(f"/search/x?application={ours.token}"),
        "HEAD": ours.api.head(ours.path),
        "OPTIONS": ours.api.options(ours.path),
        "health": ours.api.get("/health/live"),
        "metrics": ours.api.get("/metrics"),
    }


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Content-Security-Policy", POLICY_OF_DATA),
    ],
)
def test_each_answer_of_the_api_bears(answers: dict[str, HttpResponse], header: str, value: str) -> None:
    assert {name: answer.headers.get(header) for name, answer in answers.items()} == dict.fromkeys(answers, value)


def test_no_answer_of_the_api_is_taken_for_a_page(answers: dict[str, HttpResponse]) -> None:
    for name, answer in answers.items():
        assert "html" not in answer.headers.get("Content-Type", ""), name


@pytest.mark.parametrize("header", ["Access-Control-Allow-Origin", "Set-Cookie"])
def test_no_answer_of_the_api_bears(answers: dict[str, HttpResponse], header: str) -> None:
    assert {name for name, answer in answers.items() if header in answer.headers} == set()


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Content-Type-Options", "nosniff"),
        ("X-Frame-Options", "DENY"),
        ("Referrer-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
        ("Content-Security-Policy", POLICY_OF_PAGES),
    ],
)
def test_each_page_of_the_admin_bears(browser: Browser, header: str, value: str) -> None:  # noqa: F811
    for page in PAGES:
        assert browser.client.get(f"/admin/{page}", follow=True).headers.get(header) == value, page


def test_the_admin_works_under_its_policy(browser: Browser, ours: Tenant) -> None:  # noqa: F811
    """The policy blocks nothing, because scripts, styles and images are our own files."""
    ours.chat()
    ours.message(1, "<script>alert(1)</script>")
    drain_all()
    links = re.compile(r'<a href="(/admin/[^"#?]*)"')
    seen, to_see = set(), {"/admin/"}
    while to_see:
        path = to_see.pop()
        seen.add(path)
        if "logout" in path:
            continue
        answer = browser.client.get(path, follow=True)
        page = answer.content.decode()
        for script in re.findall(r"<script\b([^>]*)>", page):
            assert 'src="/' in script or 'type="application/json"' in script, (path, script)
        assert not re.findall(r"<style\b|\sstyle=|\son[a-z]+=|javascript:", page), path
        assert all(url.startswith("/") for url in re.findall(r'\b(?:src|action)="([^"]+)"', page)), path
        to_see |= set(links.findall(page)) - seen
    assert len(seen) > 15


@pytest.fixture
def https(redis_server: RealRedis, ours: Tenant, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "log", HTTPS_ONLY="1")
    yield server
    server.stop()


def ask(server: Server, path: str, *headers: str) -> Any:
    with Client(server.port) as client:
        return client.ask(request("GET", path, None, *headers))


def test_where_https_is_required_browsers_are_told_to_stay_with_it(https: Server, ours: Tenant) -> None:
    told = ask(https, ours.path, "X-Forwarded-Proto: https")
    assert told.status == 200
    assert told.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains; preload"

    login = ask(https, "/admin/login/", "X-Forwarded-Proto: https")
    assert "Secure" in login.headers["Set-Cookie"]

    sent_on = ask(https, ours.path)
    assert (sent_on.status, sent_on.headers["Location"]) == (301, f"https://localhost{ours.path}")


def test_where_https_is_required_each_location_and_each_link_says_so(https: Server, ours: Tenant) -> None:
    """An http link would be redirected, and a redirected POST arrives as a GET."""
    # Given creates of each kind through a proxy that terminates TLS,
    with Client(https.port) as client:

        def ask(method: str, path: str, content: str | None = None) -> Any:
            body = None if content is None else content.encode()
            return client.ask(request(method, path, body, "X-Forwarded-Proto: https"))

        for path, content in (
            ("/applications", '{"name": "another"}'),
            (f"{ours.path}/chats", '{"title": "one"}'),
            (f"{ours.path}/chats", '{"title": "two"}'),
            (f"{ours.path}/chats/1/messages", '{"body": "hello"}'),
            (f"{ours.path}/chats/1/messages", '{"body": "hello"}'),
        ):
            created = ask("POST", path, content)
            assert created.status == 201
            assert created.headers["Location"].startswith(f"https://localhost{path}/")
        drain_all()
        outbox.index()

        # when pages of each list and a search are read, then their links use https in both directions.
        for path in (
            "/applications?limit=1",
            f"{ours.path}/chats?limit=1",
            f"{ours.path}/chats/1/messages?limit=1",
            f"/search/hello?application={ours.token}&limit=1",
        ):
            following = ask("GET", path).json()["next"]
            assert following.startswith("https://localhost/")
            previous = ask("GET", following.removeprefix("https://localhost")).json()["previous"]
            assert previous.startswith("https://localhost/")


def test_where_it_is_not_they_are_not(answers: dict[str, HttpResponse]) -> None:
    assert all("Strict-Transport-Security" not in answer.headers for answer in answers.values())
    assert local(answers["201"].headers["Location"])


def test_a_form_of_another_site_changes_nothing_in_the_admin(api: object) -> None:
    # Given a logged-in user,
    User.objects.create_superuser("admin", password="in a test")
    visitor = DjangoClient(enforce_csrf_checks=True, raise_request_exception=False)
    [(_, token)] = HIDDEN.findall(visitor.get("/admin/login/").content.decode())[:1]
    who = {"username": "admin", "password": "in a test", "csrfmiddlewaretoken": token}
    cookie = visitor.post("/admin/login/", who).cookies["sessionid"]
    assert (cookie["httponly"], cookie["samesite"]) == (True, "Lax")

    # when another site makes the browser submit a form with that cookie,
    refused = visitor.post("/admin/logout/", {}, headers={"Origin": "https://elsewhere.example"})

    # then it is rejected, and nothing has changed.
    assert refused.status_code == 403
    assert visitor.get("/admin/").status_code == 200


def test_where_https_is_required_prometheus_may_scrape_a_host_itself(https: Server) -> None:
    assert ask(https, "/metrics").status == 200
    assert ask(https, "/metrics/x").status == 301
