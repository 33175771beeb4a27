"""The page of ``edgeattn phone`` in Debian's Chromium: in a network, interrupted, hidden, and how it looks."""

from pathlib import Path

import pytest
from phone_client import serving
from phone_page import (
    LAN,
    LIMIT_MS,
    ONE,
    PHONE,
    WASM,
    chromium,
    done,
    elsewhere,
    lan_chromium,
    phone_page,
    playwright,
    ways,
)
from playwright.sync_api import Browser

from edgeattn.bundle import records

# Fixtures of another file.
__all__ = ["chromium", "elsewhere", "lan_chromium", "playwright"]

pytestmark = pytest.mark.usefixtures("phone_runtimes")


def test_plain_http_in_the_network(elsewhere: str, lan_chromium: Browser, made_bundle: Path, tmp_path: Path) -> None:
    """One thread, and the page says what that costs."""
    out = tmp_path / "r.json"
    options = ("--host", "lan", "--http", "--out", out, "--wait", 1, "--runs", 3)
    with serving(made_bundle, *options, before=["ip", "netns", "exec", elsewhere]) as server:
        assert server.url.startswith(f"http://{LAN}:")
        with phone_page(lan_chromium, server.url) as page:
            done(page)
            assert "plain http" in page.inner_text("#notice")
        code, document, _ = server.wait()
    assert code == 0
    found = records.load(out)
    assert ways(found.records) == ONE
    assert all(record.parity and record.parity.passed for record in found.records)
    assert all(record.device.details["secure_context"] == "false" for record in found.records)
    assert any("threads need https" in entry.reason for entry in found.not_run)
    assert all(record["clock_step_ns"] >= 50_000 for record in document["records"])


def test_https_in_the_network(elsewhere: str, lan_chromium: Browser, made_bundle: Path, tmp_path: Path) -> None:
    """Threads too, after a page that explains the browser's warning; the token is never sent in the clear."""
    out = tmp_path / "r.json"
    options = ("--host", LAN, "--out", out, "--wait", 1, "--runs", 3)
    with serving(made_bundle, *options, before=["ip", "netns", "exec", elsewhere]) as server:
        with lan_chromium.new_context(**PHONE, ignore_https_errors=True) as context:
            page = context.new_page()
            requests: list[str] = []
            page.on("request", lambda request: requests.append(request.url))
            page.goto(server.url)
            assert "not private" in page.inner_text("main")
            page.click("#go")
            done(page)
        code, _, _ = server.wait()
    assert code == 0
    assert ways(records.load(out).records) == WASM
    token = server.url.rpartition("/")[2]
    assert any(token in url for url in requests)
    assert not [url for url in requests if url.startswith("http:") and token in url.partition("#")[0]]


def test_a_phone_that_goes_away_and_comes_back(made_bundle: Path, chromium: Browser, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    with serving(made_bundle, "--out", out, "--wait", 1, "--runs", 3) as server:
        with phone_page(chromium, server.url) as page:
            page.wait_for_selector("li.finished", timeout=LIMIT_MS)
            page.reload()
            done(page)
            assert "before this page was opened again" in page.inner_text("#tasks")
        code, document, _ = server.wait()
    assert (code, document["phones"]) == (0, 1)
    found = records.load(out).records
    assert len(found) == len(ways(found)) == 4


def test_samples_of_a_hidden_page_are_marked(made_bundle: Path, chromium: Browser, tmp_path: Path) -> None:
    hide = "Object.defineProperty(document, 'hidden', { get: () => true })"
    with serving(made_bundle, "--out", tmp_path / "r.json", "--wait", 1, "--runs", 30) as server:
        with chromium.new_context(**PHONE) as context:
            context.add_init_script(hide)
            page = context.new_page()
            page.goto(server.url)
            done(page)
        _, document, _ = server.wait()
    for record in document["records"]:
        assert any("not on the screen during 30 of 30 samples" in reason for reason in record["untrusted"])


def test_a_runtime_that_fails_is_one_row(made_bundle: Path, chromium: Browser, tmp_path: Path) -> None:
    """The others go on, and no markup of anybody's is rendered."""
    with serving(made_bundle, "--out", tmp_path / "r.json", "--wait", 1, "--runs", 3) as server:
        with chromium.new_context(**PHONE) as context:
            context.route("**/runtimes/ort/*", lambda route: route.fulfill(body="throw new Error('<img src=x>')",
                          content_type="text/javascript"))  # fmt: skip
            page = context.new_page()
            page.goto(server.url)
            done(page)
            assert "<img src=x>" in page.inner_text("li.failed")
            assert page.locator("img").count() == 0
        code, document, _ = server.wait()
    assert code == 0
    assert {record["runtime"] for record in document["records"]} == {"litert.js wasm"}
    assert sum("<img src=x>" in entry["reason"] for entry in document["not_run"]) == 2


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(scheme: str, made_bundle: Path, chromium: Browser, tmp_path: Path) -> None:
    """Nothing is wider than the screen; text and back differ enough (WCAG AA)."""
    contrast = """() => {
        const light = (text) => {
            const [r, g, b] = text.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
                .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
        };
        const back = (element) => {
            for (let at = element; at; at = at.parentElement) {
                const color = getComputedStyle(at).backgroundColor;
                if (!color.endsWith(", 0)")) return color;
            }
        };
        const shown = [...document.querySelectorAll("h1, p, strong, span, a")].filter((e) => e.innerText);
        return Math.min(...shown.map((element) => {
            const two = [light(getComputedStyle(element).color), light(back(element))].sort((a, b) => b - a);
            return (two[0] + 0.05) / (two[1] + 0.05);
        }));
    }"""
    with serving(made_bundle, "--out", tmp_path / "r.json", "--runs", 3) as server:
        with phone_page(chromium, server.url, color_scheme=scheme) as page:
            page.wait_for_selector("li.finished", timeout=LIMIT_MS)
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            assert page.evaluate(contrast) >= 4.5
        server.interrupt()
