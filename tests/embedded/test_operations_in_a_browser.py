"""The operations page of a running product in a real browser: live, by keyboard, on a phone, and in dark mode."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import Browser, Page, Route, StorageState, expect

from chatsystem.writelog import ownership
from tests.support.product import BASE_DIR, PATIENCE, Product
from tests.support.readable import cut_off, hard_to_read

PASSWORD = "correct horse battery staple"
STRICT = "default-src 'self'"


@pytest.fixture(scope="module")
def product(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    running = Product(tmp_path_factory.mktemp("operations"))
    running.start()
    running.wait_until_ready()
    subprocess.run(
        [sys.executable, "manage.py", "createsuperuser", "--noinput", "--username=admin", "--email=a@example.com"],
        cwd=BASE_DIR,
        env={**running.environ(), "DJANGO_SUPERUSER_PASSWORD": PASSWORD},
        check=True,
    )
    yield running
    running.kill_everything()


@pytest.fixture(scope="module")
def session(browser: Browser, product: Product) -> StorageState:
    """Returns the cookies of a superuser who has logged in."""
    page = browser.new_page()
    page.set_default_timeout(PATIENCE * 1_000)
    page.goto(f"{product.url}/admin/login/")
    page.fill("#id_username", "admin")
    page.fill("#id_password", PASSWORD)
    page.press("#id_password", "Enter")
    page.get_by_role("link", name="Operations").wait_for()
    cookies = page.context.storage_state()
    page.close()
    return cookies


@pytest.fixture
def page(browser: Browser, product: Product, session: StorageState) -> Iterator[Page]:
    """The operations page of a superuser, live, under a strict Content-Security-Policy."""
    page = browser.new_context(viewport={"width": 1280, "height": 900}, storage_state=session).new_page()
    page.set_default_timeout(PATIENCE * 1_000)
    expect.set_options(timeout=PATIENCE * 1_000)

    def strictly(route: Route) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "content-security-policy": STRICT})

    page.route("**/admin/operations/", strictly)
    page.goto(f"{product.url}/admin/operations/")
    expect(page.locator("#connection")).to_have_text("Live.")
    yield page
    page.context.close()


@pytest.fixture(scope="module")
def post(product: Product) -> Callable[[int], None]:
    """Posts messages to a new chat."""
    token = requests.post(f"{product.url}/applications", json={"name": "ours"}, timeout=20).json()["token"]
    chats = f"{product.url}/applications/{token}/chats"
    requests.post(chats, json={"title": "a chat"}, timeout=20).raise_for_status()

    def post(messages: int) -> None:
        answer = requests.post(f"{chats}/1/messages", json=[{"body": "a message"}] * messages, timeout=20)
        answer.raise_for_status()

    return post


def figure(page: Page, id: str) -> int:
    text = page.locator(f"#{id}").inner_text().replace(",", "")
    return int(text) if text.isdecimal() else 0


def tab_to(page: Page, words: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("(document.activeElement.value || document.activeElement.textContent).trim()").startswith(
            words
        ):
            return
    pytest.fail(f"Tab does not lead to {words!r}")


def test_the_figures_follow_posts_without_requests_to_other_hosts(
    page: Page, product: Product, post: Callable[[int], None]
) -> None:
    # Given a reloaded page whose requests and errors are recorded,
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.reload()
    expect(page.locator("#service-workers b")).to_have_text("up")
    expect(page.locator("#service-live b")).to_have_text("up")
    documents = figure(page, "index-documents")

    # when messages are posted,
    highest = {"acknowledged": 0, "stored": 0}
    deadline = time.monotonic() + PATIENCE
    while not all(highest.values()) or figure(page, "index-documents") <= documents:
        assert time.monotonic() < deadline, (highest, documents)
        post(50)
        page.wait_for_timeout(500)
        highest = {id: max(most, figure(page, id)) for id, most in highest.items()}

    # then the plot has both lines and rises above 0,
    for name in highest:
        assert len(set(page.locator(f".ops-line-{name}").get_attribute("d").split("L"))) > 1
    assert "The highest was 0." not in page.locator("#plot").get_attribute("aria-label")
    # no other host got a request, and the browser reported no error, including violations of the policy.
    assert {urlsplit(url).netloc for url in asked} == {urlsplit(product.url).netloc}
    assert len([url for url in asked if url.endswith("/snapshot")]) > 1
    assert complaints == []


def test_buttons_work_by_keyboard_and_show_the_result(page: Page, post: Callable[[int], None]) -> None:
    post(5)
    tab_to(page, "Drain the log")
    ring = page.evaluate("getComputedStyle(document.activeElement).outlineWidth")
    assert ring == "3px", "who uses a keyboard sees where they are"
    page.keyboard.press("Enter")
    expect(page.locator(".messagelist")).to_contain_text("Drain the log: queued.")
    expect(page.locator("#drain .ops-outcome")).to_contain_text("events stored")
    assert "(admin, " in page.locator("#drain .ops-outcome").inner_text()

    # A job with a warning asks first, on its own page.
    tab_to(page, "Reindex…")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Reindex?").wait_for()
    tab_to(page, "Yes: reindex")
    page.keyboard.press("Enter")
    expect(page.locator("#reindex .ops-outcome")).to_contain_text("messages are in the index")
    # The keyboard focus is in the row of the pressed button.
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('li').id") == "reindex"


def test_the_age_of_the_figures_is_shown_when_the_server_stops_answering(page: Page) -> None:
    page.context.set_offline(True)

    expect(page.locator("#connection")).to_have_text("The server does not answer. These are the last figures.")
    expect(page.locator("#age")).to_have_text("Figures are 4 s old.")
    assert page.locator("#operations").get_attribute("data-stale") is not None

    page.context.set_offline(False)
    expect(page.locator("#connection")).to_have_text("Live.")
    assert page.locator("#operations").get_attribute("data-stale") is None


def test_a_hidden_tab_pauses_and_resumes_when_it_is_visible(page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    see = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    see += "document.dispatchEvent(new Event('visibilitychange')); }"

    # The tab is hidden during a request, which is answered later.
    held: list[Route] = []
    page.route("**/snapshot", lambda route: held.append(route))
    with page.expect_request("**/snapshot"):
        pass
    page.evaluate(see, True)
    held[0].continue_()
    page.unroute("**/snapshot")
    page.wait_for_timeout(500)
    asked.clear()
    page.wait_for_timeout(4_500)
    assert asked == []
    expect(page.locator("#connection")).to_have_text("Paused while the page is hidden.")

    page.evaluate(see, False)
    expect(page.locator("#connection")).to_have_text("Live.")
    assert asked


def test_a_logged_out_user_is_told(page: Page) -> None:
    page.context.clear_cookies()

    expect(page.locator("#connection")).to_contain_text("You are logged out")


def test_nothing_is_cut_off_or_hard_to_read(page: Page) -> None:
    # Given the widest possible figures, and a partition of each kind,
    snapshot = page.evaluate("fetch('/admin/operations/snapshot').then((answer) => answer.json())")
    snapshot["log"] |= {
        "waiting": {"5": 3, "6": 1_234, "7": 100_000, "63": 12_345_678},
        "halted": [9, 10],
        "superseded": [10, 11, 12, 13, 14, 15],
        "seconds": 99,
    }
    snapshot["index"] |= {"name": "chatsystem-messages-v1-000007", "documents": 123_456_789, "complete": False}
    snapshot["index"]["building"] = "chatsystem-messages-v1-000008"
    snapshot["database"] |= {"dead": 1_234_567, "outbox_entries": 1_234_567, "outbox_seconds": 1e6}
    run = {"by": "somebody-with-a-long-name", "began_at": 1, "ended_at": None, "outcome": "", "id": ""}
    snapshot["jobs"] = {
        "drain": run | {"status": "waiting", "done": 0, "total": None},
        "replay": run | {"status": "failed", "outcome": f"OperationalError: {'x' * 200}", "done": 0, "total": 1},
        "recount": run | {"status": "running", "done": 1_234_567, "total": 12_345_678},
        "reindex": run | {"status": "lost", "done": 0, "total": None},
    }
    page.route("**/admin/operations/snapshot", lambda route: route.fulfill(json=snapshot))
    expect(page.locator("#dead-events")).to_have_text("1,234,567")
    expect(page.locator("#partition-grid [data-level=halted]")).to_have_count(2)
    expect(page.locator("#partition-grid [data-level=superseded]")).to_have_count(5)
    both = page.locator("#partition-grid [title='Partition 10: 0 events waiting, halted, superseded']")
    expect(both).to_have_count(1)
    expect(page.locator("#partition-summary")).to_contain_text(f"6 {ownership.REASON}: 10, 11, 12, 13, 14, …")

    # then they fit into a window of any width, and can be read, in either scheme.
    for scheme, width in itertools.product(("light", "dark"), (1280, 700, 390)):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert cut_off(page, "#operations *") == [], (scheme, width)
        # The others are on a pattern.
        even = "#operations *:not([data-level=halted], [data-level=superseded])"
        assert hard_to_read(page, even) == [], (scheme, width)
        assert page.evaluate("getComputedStyle(document.querySelector('#operations a')).transitionDuration") == "0s"
