"""/docs in a browser: no requests to other hosts, nothing is cut off, and requests can be tried."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.support.harness import skip_or_fail
from tests.support.product import Product
from tests.support.services.packages import Missing, ensure

#: Milliseconds. Far more than needed.
PATIENCE = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    try:
        ensure(["chromium"], "chromium")
    except Missing as missing:
        skip_or_fail(missing)
    expect.set_options(timeout=PATIENCE)
    with sync_playwright() as playwright:
        # The sandbox does not work for root.
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(params=[1280, 390])
def page(
    request: pytest.FixtureRequest, browser: Browser, product: Product, description: dict[str, Any]
) -> Iterator[Page]:
    """The loaded page, at the width of a desktop and of a phone."""
    page = browser.new_page(viewport={"width": request.param, "height": 900})
    page.set_default_timeout(PATIENCE)
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"{product.url}/docs")
    expect(page.locator(".opblock")).to_have_count(sum(len(path) for path in description["paths"].values()))
    yield page
    page.close()

    assert asked
    assert [url for url in asked if not url.startswith((f"{product.url}/", "data:"))] == []
    assert complaints == []


def operation(page: Page, name: str) -> Any:
    """Opens and returns an operation of the page."""
    block = page.locator(f"[id$='-{name}']")
    block.locator(".opblock-summary-control").click()
    expect(block.locator(".opblock-body")).to_be_visible()
    return block


def test_it_is_no_wider_than_the_window_also_with_everything_open(page: Page, description: dict[str, Any]) -> None:
    for path in description["paths"].values():
        for said in path.values():
            operation(page, said["operationId"])

    assert page.evaluate("document.documentElement.scrollWidth") == page.evaluate("window.innerWidth")


def test_a_request_can_be_tried_on_it(page: Page) -> None:
    block = operation(page, "create_application")

    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()

    answer = block.locator(".live-responses-table")
    expect(answer.locator(".response-col_status").last).to_contain_text("201")
    expect(answer).to_contain_text("chats_count")


def test_a_second_visit_shows_what_the_first_one_did(page: Page, description: dict[str, Any]) -> None:
    """The browser revalidates its copy. The 304 must not replace the page's policy."""
    operations = sum(len(path) for path in description["paths"].values())

    for visit in (lambda: page.goto(page.url), page.reload, lambda: page.goto(page.url)):
        visit()
        expect(page.locator(".opblock")).to_have_count(operations)
