"""Whether a page can be read: contrasts, and what is cut off."""

from __future__ import annotations

from playwright.sync_api import Page

CONTRASTS = """(selector) => {
    const parsed = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b].map((c) => c / 255)
        .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            const [r, g, b, alpha = 1] = parsed(getComputedStyle(e).backgroundColor);
            if (alpha === 1) return [r, g, b];
        }
        return [255, 255, 255];
    };
    return [...document.querySelectorAll(selector)]
        .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.checkVisibility())
        .filter((e) => e.namespaceURI.endsWith("xhtml") && !e.disabled)
        .map((e) => {
            const [high, low] = [light(parsed(getComputedStyle(e).color)), light(behind(e))].sort((a, b) => b - a);
            return [e.textContent.trim().slice(0, 40), (high + 0.05) / (low + 0.05)];
        });
}"""

CUT_OFF = """(selector) => [...document.querySelectorAll(selector)].filter((e) => e.namespaceURI.endsWith("xhtml"))
    .filter((e) => e.checkVisibility() && (e.getBoundingClientRect().right > innerWidth
        || (e.tagName !== "PROGRESS" && e.clientWidth && e.scrollWidth > e.clientWidth + 1)))
    .map((e) => e.outerHTML.slice(0, 80))"""


def hard_to_read(page: Page, selector: str) -> list[tuple[str, float]]:
    """Returns texts without enough contrast with their background (WCAG 2.2, 1.4.3), and their contrast."""
    return [(words, round(ratio, 1)) for words, ratio in page.evaluate(CONTRASTS, selector) if ratio < 4.5]


def cut_off(page: Page, selector: str) -> list[str]:
    """Returns visible elements that are cut off or extend beyond the window's right edge."""
    found: list[str] = page.evaluate(CUT_OFF, selector)
    return found
