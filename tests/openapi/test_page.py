"""/docs in a browser: no requests to other hosts, nothing is cut off, and requests can be tried."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.support.product import Product

#: Milliseconds. Far more than needed.
PATIENCE = 60_000


@pytest.fixture(scope="module")
def tab(browser: Browser, product: Product, description: dict[str, Any]) -> Iterator[Page]:
    """The page, loaded once for all tests: rendering it is what takes long here."""
    expect.set_options(timeout=PATIENCE)
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{product.url}/docs")
    expect(page.locator(".opblock")).to_have_count(len(operations(description)))
    yield page
    page.close()

    assert asked
    assert [url for url in asked if not url.startswith((f"{product.url}/", "data:"))] == []
    assert complaints == []


@pytest.fixture(params=[1280, 390])
def page(request: pytest.FixtureRequest, tab: Page) -> Page:
    """The page at the width of a desktop and of a phone, as the test before left it."""
    tab.set_viewport_size({"width": request.param, "height": 900})
    return tab


def operations(description: dict[str, Any]) -> list[str]:
    return [said["operationId"] for path in description["paths"].values() for said in path.values()]


def operation(page: Page, name: str) -> Locator:
    return page.locator(f"[id$='-{name}']")


def test_it_is_no_wider_than_the_window_also_with_everything_open(page: Page, description: dict[str, Any]) -> None:
    for name in operations(description):
        # Only asks whether a click would work. Each click renders everything that is open again.
        operation(page, name).locator(".opblock-summary-control").click(trial=True)
    page.evaluate(
        "document.querySelectorAll('.opblock:not(.is-open) .opblock-summary-control').forEach(c => c.click())"
    )

    for name in operations(description):
        expect(operation(page, name).locator(".opblock-body")).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("window.innerWidth")


def test_a_second_visit_shows_what_the_first_one_did(page: Page, description: dict[str, Any]) -> None:
    """The browser revalidates its copy. The 304 must not replace the page's policy."""
    # With the fragment of an open operation, the browser would load nothing.
    url = page.url.partition("#")[0]

    for visit in (lambda: page.goto(url), page.reload, lambda: page.goto(url)):
        visit()
        expect(page.locator(".opblock")).to_have_count(len(operations(description)))


def test_a_request_can_be_tried_on_it(page: Page) -> None:
    page.goto(page.url.partition("#")[0])
    block = operation(page, "create_application")

    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()

    answer = block.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("201")
    expect(answer).to_contain_text("chats_count")
