"""The landing page and the demo of a running product in a real browser."""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from playwright.sync_api import APIResponse, Browser, BrowserContext, Locator, Page, Route, expect

from tests.support.product import PATIENCE, Product, children, eventually, kill
from tests.support.readable import cut_off, hard_to_read

ADMIN_KEY = "k" * 43
WEB, LIVE = " chatsystem.wsgi", " live.asgi"
LOOKS = list(itertools.product((1280, 390), ("light", "dark")))


@pytest.fixture(scope="module")
def product(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    expect.set_options(timeout=PATIENCE * 1_000)
    running = Product(tmp_path_factory.mktemp("demo"))
    running.start()
    running.wait_until_ready()
    # The workers, too.
    eventually(lambda: set(running.states().values()) == {"ok"})
    yield running
    running.kill_everything()


class Watched:
    """A page whose requests, console and errors are recorded."""

    def __init__(self, context: BrowserContext) -> None:
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENCE * 1_000)
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))

    def expect_calm(self, product: Product) -> None:
        """Fails if it has asked another host, or if the browser has reported an error or a violation of the policy."""
        assert self.complaints == []
        assert {urlsplit(url).netloc for url in self.asked} == {urlsplit(product.url).netloc}


@pytest.fixture(params=LOOKS, ids=lambda look: f"{look[0]}-{look[1]}")
def watched(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Watched]:
    width, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    yield Watched(context)
    context.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    yield Watched(context).page
    context.close()


def begin(page: Page, product: Product) -> tuple[Locator, Locator]:
    """Creates an application and a chat, and returns both panes."""
    page.goto(f"{product.url}/demo")
    page.get_by_role("button", name="Create").click()
    page.get_by_label("Title of a new chat").fill("Lunch")
    page.keyboard.press("Enter")
    return both(page)


def both(page: Page) -> tuple[Locator, Locator]:
    panes = page.locator(".pane")
    for pane in (panes.nth(0), panes.nth(1)):
        expect(pane.locator(".state")).to_have_text("Live")
        expect(pane.get_by_label("Message", exact=True)).to_be_enabled()
    return panes.nth(0), panes.nth(1)


def say(pane: Locator, text: str) -> None:
    field = pane.get_by_label("Message", exact=True)
    field.fill(text)
    field.press("Enter")


def bodies(pane: Locator) -> Locator:
    return pane.locator(".messages .body")


def application(page: Page) -> str:
    """Returns the token of the page's application."""
    token: str = page.evaluate("JSON.parse(sessionStorage.getItem('demo')).token")
    return token


def expect_readable(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("innerWidth")
    assert hard_to_read(page, "body *") == []
    # A long title in the row of chats ends in "…".
    assert cut_off(page, "body *:not(#chats, #chats *, .row *)") == []


def test_the_landing_page_is_readable_also_on_a_second_visit(watched: Watched, product: Product) -> None:
    page = watched.page
    for _ in range(2):
        page.goto(product.url)
        expect(page.locator("dd")).to_have_text(["ok"] * page.locator("dd").count())
        expect_readable(page)
        page.get_by_role("link", name="Try the demo").click()
        expect(page.get_by_role("button", name="Create")).to_be_visible()
        expect_readable(page)
    watched.expect_calm(product)


def test_what_one_writes_the_other_sees_also_on_a_second_visit(watched: Watched, product: Product) -> None:
    page = watched.page
    for _ in range(2):
        ana, ben = begin(page, product)
        say(ana, "Shall we have lunch? <img src=x onerror=alert(1)>")
        expect(bodies(ben)).to_have_count(1)
        say(ben, "Yes!\nAt noon. " + "W" * 100)

        for pane in (ana, ben):
            expect(bodies(pane)).to_have_count(2)
            expect(bodies(pane).first).to_have_text("Shall we have lunch? <img src=x onerror=alert(1)>")
            expect(pane.locator(".own .body")).to_have_count(1)
        expect(ben.locator(".message .sender").first).to_have_text("Ana")

        # An edit changes the message in its place.
        ana.get_by_role("button", name="Edit message 1").click()
        expect_readable(page)
        ana.get_by_label("New text").fill("Shall we have dinner?")
        page.keyboard.press("Enter")
        expect(bodies(ben).first).to_have_text("Shall we have dinner?")
        expect(ben.locator(".edited").first).to_be_visible()
        expect(bodies(ben)).to_have_count(2)

        expect_readable(page)
        page.get_by_role("button", name="Leave").click()
        expect(page.get_by_role("button", name="Create")).to_be_visible()
    watched.expect_calm(product)


def press_until(page: Page, label: str) -> None:
    """Presses Tab until the element of this name has the focus."""
    for _ in range(60):
        page.keyboard.press("Tab")
        name = "(e => e.ariaLabel || e.labels?.[0]?.textContent.trim() || e.textContent.trim())(document.activeElement)"
        if page.evaluate(name) == label:
            assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
            return
    pytest.fail(f"Tab does not lead to {label!r}")


def test_everything_works_by_keyboard(page: Page, product: Product) -> None:
    page.goto(f"{product.url}/demo")
    press_until(page, "A new application")
    page.keyboard.press("Enter")
    expect(page.get_by_label("Title of a new chat")).to_be_focused()
    page.keyboard.type("Lunch")
    page.keyboard.press("Enter")
    ana, ben = both(page)
    expect(ana.get_by_label("Message", exact=True)).to_be_focused()
    page.keyboard.type("one")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("two")
    page.keyboard.press("Enter")
    expect(bodies(ben)).to_have_text(["one\ntwo"], use_inner_text=True)

    expect(ana.get_by_role("button", name="Edit message 1")).to_be_visible()
    page.keyboard.press("Shift+Tab")
    expect(ana.get_by_role("button", name="Edit message 1")).to_be_focused()
    page.keyboard.press("Enter")
    page.keyboard.press("Control+A")
    page.keyboard.type("three")
    page.keyboard.press("Enter")
    expect(bodies(ben)).to_have_text(["three"])
    expect(ana.get_by_role("button", name="Edit message 1")).to_be_focused()

    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(ana.locator(".editor")).to_have_count(0)


def test_search_marks_what_matches_and_leads_to_it(page: Page, product: Product) -> None:
    # Given a long chat, and one that is open,
    ana, ben = begin(page, product)
    messages = f"{product.url}/applications/{application(page)}/chats/1/messages"
    batch = [{"body": "a <b>quokka</b> & more" if number == 10 else f"line {number}"} for number in range(1, 201)]
    requests.post(messages, json=batch, timeout=20).raise_for_status()
    page.get_by_label("Title of a new chat").fill("Dinner")
    page.keyboard.press("Enter")
    expect(bodies(ana)).to_have_count(0)

    # when somebody searches, until the index has it,
    field = page.get_by_placeholder("Words, or their beginnings")

    def found() -> bool:
        field.fill("quok")
        field.press("Enter")
        expect(page.locator("#found")).not_to_have_text("")
        page.wait_for_timeout(200)
        return page.locator("#found").inner_text() == "1 message"

    eventually(found)

    # then the match is marked in the text, and a click shows the message where it was written.
    hit = page.locator("#hits button")
    expect(hit.locator("mark")).to_have_text("quokka")
    expect(hit).to_contain_text("Lunch #10a <b>quokka</b> & more")
    hit.click()
    for pane in (ana, ben):
        expect(pane.locator(".revealed .body")).to_have_text("a <b>quokka</b> & more")
        expect(pane.locator(".revealed")).to_be_in_viewport()
        expect(bodies(pane)).to_have_count(200)


def test_scrolling_back_shows_the_whole_history_once(page: Page, product: Product) -> None:
    ana, _ = begin(page, product)
    messages = f"{product.url}/applications/{application(page)}/chats/1/messages"
    lines = [f"line {number}" for number in range(1, 171)]
    requests.post(messages, json=[{"body": line} for line in lines], timeout=20).raise_for_status()
    page.reload()
    ana, _ = both(page)
    expect(bodies(ana)).to_have_text(lines[-50:])

    # What was in view stays in view while older ones arrive above it.
    ana.locator(".scroll").evaluate("scroll => scroll.scrollTop = 39")
    expect(bodies(ana)).to_have_count(100)
    assert ana.locator("[data-number='121']").is_visible()
    expect(ana.locator("[data-number='121']")).to_be_in_viewport()

    for amount in (150, 170):
        # Playwright's click would scroll to the button, and scrolling to the top loads older messages too.
        ana.get_by_role("button", name="Load older messages").dispatch_event("click")
        expect(bodies(ana)).to_have_count(amount)
    expect(bodies(ana)).to_have_text(lines)
    expect(ana.get_by_role("button", name="Load older messages")).to_be_hidden()

    # Who reads older messages is told of new ones, and not moved.
    ana.locator(".scroll").evaluate("scroll => scroll.scrollTop = 0")
    requests.post(messages, json={"body": "news"}, timeout=20).raise_for_status()
    ana.get_by_role("button", name="New messages").click()
    expect(bodies(ana).last).to_be_in_viewport()


def test_a_list_that_is_older_than_the_stream_hides_nothing(page: Page, product: Product) -> None:
    # Given a list that takes long,
    ana, _ = begin(page, product)
    say(ana, "first")
    expect(bodies(ana)).to_have_count(1)
    page.reload()
    both(page)
    chats = f"{product.url}/applications/{application(page)}/chats"
    requests.post(chats, json={"title": "Dinner"}, timeout=20).raise_for_status()
    requests.post(f"{chats}/2/messages", json={"body": "first"}, timeout=20).raise_for_status()
    held: list[tuple[Route, APIResponse]] = []
    page.route("**/chats/2/messages?*", lambda route: held.append((route, route.fetch())))
    page.get_by_role("button", name="Dinner").click()
    while len(held) < 2:
        page.wait_for_timeout(20)

    # when the stream tells of an edit before the list arrives,
    requests.patch(f"{chats}/2/messages/1", json={"body": "edited"}, timeout=20).raise_for_status()
    for pane in both(page):
        expect(bodies(pane)).to_have_text(["edited"])
    for route, answer in held:
        listed = answer.json()
        # Shows that the list has arrived.
        listed["results"].insert(0, {**listed["results"][0], "number": 2, "body": "of the list"})
        route.fulfill(response=answer, json=listed)

    # then the list adds what the stream did not tell, and replaces nothing.
    for pane in both(page):
        expect(bodies(pane)).to_have_text(["edited", "of the list"])


def test_who_was_offline_gets_what_was_missed(page: Page, product: Product) -> None:
    ana, ben = begin(page, product)
    say(ana, "before")
    expect(bodies(ben)).to_have_text(["before"])

    ben.get_by_role("button", name="Go offline").click()
    expect(ben.locator(".state")).to_have_text("Offline")
    say(ana, "meanwhile")
    ana.get_by_role("button", name="Edit message 1").click()
    ana.get_by_label("New text").fill("before, edited")
    page.keyboard.press("Enter")
    expect(bodies(ana)).to_have_text(["before, edited", "meanwhile"])
    expect(bodies(ben)).to_have_text(["before"])
    expect(ben.get_by_label("Message", exact=True)).to_be_disabled()

    ben.get_by_role("button", name="Go online").click()
    expect(bodies(ben)).to_have_text(["before, edited", "meanwhile"])


def test_a_hidden_tab_uses_no_connection_and_continues_when_it_is_seen(page: Page, product: Product) -> None:
    see = "hidden => { Object.defineProperty(document, 'hidden', {value: hidden, configurable: true}); "
    see += "document.dispatchEvent(new Event('visibilitychange')); }"
    ana, ben = begin(page, product)
    token = application(page)

    page.evaluate(see, True)
    expect(ana.locator(".state")).to_have_text("Paused while hidden")
    requests.post(f"{product.url}/applications/{token}/chats/1/messages", json={"body": "meanwhile"}, timeout=20)
    requests.post(f"{product.url}/applications/{token}/chats", json={"title": "Dinner"}, timeout=20)
    expect(bodies(ben)).to_have_count(0)
    page.evaluate(see, False)

    for pane in (ana, ben):
        expect(bodies(pane)).to_have_text(["meanwhile"])
    expect(page.locator("#chats button")).to_have_text(["Dinner", "Lunch"])


def test_each_request_can_be_repeated_with_curl(page: Page, product: Product) -> None:
    ana, ben = begin(page, product)
    say(ana, 'it\'s "quoted" $HOME `here`')
    expect(bodies(ben)).to_have_count(1)

    shown = {
        entry.get_attribute("data-name"): entry.locator("code").inner_text()
        for entry in page.locator("#requests li").all()
    }
    assert {"Create an application", "Create a chat", "Send a message", "List messages", "Stream"} <= set(shown)
    for name in ("Create a chat", "Send a message"):
        run = subprocess.run(["sh", "-c", f"{shown[name]} --fail --silent"], capture_output=True, timeout=60)
        assert run.returncode == 0, (name, run.stderr)

    for pane in (ana, ben):
        expect(bodies(pane)).to_have_text(['it\'s "quoted" $HOME `here`'] * 2)
    expect(page.locator("#chats button")).to_have_text(["Lunch", "Lunch"])


def test_a_reload_keeps_the_application_and_who_wrote_what(page: Page, product: Product) -> None:
    ana, ben = begin(page, product)
    page.locator(".person").nth(1).fill("Chloé")
    page.keyboard.press("Enter")
    say(ben, "from Chloé")
    expect(ana.locator(".sender")).to_have_text(["Chloé"])

    page.reload()

    ana, ben = both(page)
    expect(ana.locator(".sender")).to_have_text(["Chloé"])
    expect(ben.locator(".own .body")).to_have_text(["from Chloé"])


def test_with_an_admin_key_a_token_opens_the_demo(browser: Browser, tmp_path: Path) -> None:
    product = Product(tmp_path / "data", settings={"ADMIN_API_KEY": ADMIN_KEY})
    product.start()
    context = browser.new_context()
    try:
        product.wait_until_ready()
        watched = Watched(context)
        page = watched.page
        page.goto(f"{product.url}/demo")
        command = page.locator("#create-with-key").inner_text()
        environment = {"ADMIN_API_KEY": ADMIN_KEY}
        created = subprocess.run(["bash", "-c", command], env=environment, capture_output=True, text=True, check=True)
        token = created.stdout.partition('"token":"')[2][:32]

        page.get_by_label("An existing application").fill(f" {token} ")
        page.keyboard.press("Enter")
        page.get_by_label("Title of a new chat").fill("Lunch")
        page.keyboard.press("Enter")
        ana, ben = both(page)
        say(ana, "hello")

        expect(bodies(ben)).to_have_text(["hello"])
        watched.expect_calm(product)
        assert ADMIN_KEY not in page.content()
    finally:
        context.close()
        product.kill_everything()


def test_a_token_that_is_nobodys_is_told(page: Page, product: Product) -> None:
    page.goto(f"{product.url}/demo")
    page.get_by_label("by its token").fill("0" * 32)
    page.keyboard.press("Enter")

    expect(page.locator("#problem")).to_have_text("Not found.")


RECORD_STATES = """() => {
    window.states = [];
    for (const label of document.querySelectorAll(".state")) {
        new MutationObserver(() => states.push(label.textContent)).observe(label, {childList: true});
    }
}"""


def test_two_pages_that_chat_are_complete_whatever_is_killed(browser: Browser, product: Product) -> None:
    # Given two pages of the same application, each with two people,
    contexts = [browser.new_context(), browser.new_context()]
    try:
        pages = [Watched(context).page for context in contexts]
        begin(pages[0], product)
        pages[1].goto(f"{product.url}/demo")
        pages[1].get_by_label("by its token").fill(application(pages[0]))
        pages[1].keyboard.press("Enter")
        panes = [pane for page in pages for pane in both(page)]
        for page in pages:
            page.evaluate(RECORD_STATES)

        # when they write while the processes that serve the API and the streams are killed, one by one and all,
        sent = []
        for round in range(4):
            for number, pane in enumerate(panes):
                sent.append(f"round {round}, person {number}")
                say(pane, sent[-1])
            for words in ((WEB,), (LIVE,), (WEB, LIVE), ())[round]:
                # One that was killed before may not be back yet.
                eventually(lambda: bool(product.mains(words)))  # noqa: B023
                for master in product.mains(words):
                    for pid in [master, *children(master)]:
                        kill(pid)
            for number, pane in enumerate(panes):
                sent.append(f"round {round}, person {number}, during the fault")
                say(pane, sent[-1])

        # then all of them see everything once, and in the order of the numbers.
        messages = f"{product.url}/applications/{application(pages[0])}/chats/1/messages?limit=1000"
        for pane in panes:
            expect(pane.locator(".outbox li")).to_have_count(0)
            expect(bodies(pane)).to_have_count(len(sent))
        listed = [message["body"] for message in requests.get(messages, timeout=20).json()["results"]]
        assert sorted(listed) == sorted(sent)
        for pane in panes:
            expect(bodies(pane)).to_have_text(listed)
            expect(pane.locator(".state")).to_have_text("Live")
        for page in pages:
            assert "Reconnecting…" in page.evaluate("states")
    finally:
        for context in contexts:
            context.close()
