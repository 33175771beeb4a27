"""The page of ``edgeattn phone`` in Debian's Chromium."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from browsers import program
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

CHROMIUM = ("--no-sandbox", "--disable-dev-shm-usage")
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
LIMIT_MS = 120_000


@pytest.fixture(scope="module")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


def launched(playwright: Playwright, *arguments: str, before: str | None = None) -> Browser:
    """Debian's Chromium; ``before`` is a program that starts it elsewhere."""
    return playwright.chromium.launch(executable_path=before or program("chromium"), args=[*CHROMIUM, *arguments])


@contextmanager
def phone_page(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    with browser.new_context(**{**PHONE, **context}) as opened:
        page = opened.new_page()
        page.goto(url)
        yield page


def visit(browser: Browser, url: str) -> None:
    """Open the page and wait until it says that it is done."""
    with phone_page(browser, url) as page:
        done(page)


def done(page: Page) -> None:
    page.wait_for_selector("#status.good", timeout=LIMIT_MS)
    assert page.inner_text("#headline") == "Done. Look at your computer."
