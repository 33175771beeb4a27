"""The page of ``edgeattn phone`` in Debian's Chromium: what several tests need."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from browsers import program
from phone_client import serving
from playwright.sync_api import Browser, Page, Playwright, Route, sync_playwright

from edgeattn.bundle import records
from edgeattn.bundle.records import NotRun, Record

CHROMIUM = ("--no-sandbox", "--disable-dev-shm-usage")
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2}
LIMIT_MS = 120_000
LAN = "198.51.100.7"
# WebGPU without a GPU: for function only, its times mean nothing.
SOFTWARE_GPU = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
ONE = {("onnxruntime-web wasm", False), ("litert.js wasm", False)}
WASM = ONE | {("onnxruntime-web wasm", True), ("litert.js wasm", True)}


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


@pytest.fixture(scope="module")
def chromium(playwright: Playwright) -> Iterator[Browser]:
    with launched(playwright) as browser:
        yield browser


@pytest.fixture(scope="module")
def gpu_chromium(playwright: Playwright) -> Iterator[Browser]:
    with launched(playwright, *SOFTWARE_GPU) as browser:
        yield browser


@pytest.fixture(scope="module")
def elsewhere() -> Iterator[str]:
    """A network of its own, in which this machine has an address that is no loopback to a browser."""
    name = f"edgeattn-{os.getpid()}"
    if os.geteuid() or subprocess.run(["ip", "netns", "add", name], check=False, capture_output=True).returncode:
        pytest.skip("it takes root, and the right to make network namespaces")
    try:
        for words in (
            ["link", "set", "lo", "up"],
            ["addr", "add", f"{LAN}/24", "dev", "lo"],
            ["route", "add", "default", "dev", "lo", "src", LAN],
        ):
            subprocess.run(["ip", "-n", name, *words], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.fixture(scope="module")
def lan_chromium(elsewhere: str, playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    script = tmp_path_factory.mktemp("lan") / "chromium"
    script.write_text(f'#!/bin/sh\nexec ip netns exec {elsewhere} chromium "$@"\n')
    script.chmod(0o755)
    with launched(playwright, before=str(script)) as browser:
        yield browser


@dataclass(frozen=True)
class OnGpu:
    """What came of the tasks on WebGPU: the text of the page's rows, the records by runtime, and the exit code."""

    rows: str
    records: dict[str, Record]
    not_run: tuple[NotRun, ...]
    code: int


def on_webgpu(browser: Browser, made: Path, out: Path, only: str = "", **changed: tuple[str, str]) -> OnGpu:
    """Visit the page for its tasks on WebGPU, of the runtime ``only`` or of both. ``changed``: scripts of the page by
    name, with a text in each that is replaced by another."""
    with serving(made, "--out", out, "--wait", 1, "--runs", 2) as server:
        with browser.new_context(**PHONE) as context:
            context.route("**/plan.json", partial(webgpu_alone, runtime=only))
            for name, (text, other) in changed.items():
                context.route(f"**/page/{name}.js", partial(replaced, text=text, other=other))
            page = context.new_page()
            page.goto(server.url)
            done(page)
            rows = page.inner_text("#tasks")
        code, _, _ = server.wait()
    found = records.load(out)
    return OnGpu(rows, {record.runtime: record for record in found.records}, found.not_run, code)


def webgpu_alone(route: Route, runtime: str) -> None:
    response = route.fetch()
    plan = response.json()
    tasks = [task for task in plan["tasks"] if task["backend"] == "webgpu" and task["runtime"].startswith(runtime)]
    route.fulfill(response=response, json={**plan, "tasks": tasks})


def replaced(route: Route, text: str, other: str) -> None:
    response = route.fetch()
    script = response.text()
    assert script.count(text) == 1
    route.fulfill(response=response, body=script.replace(text, other))


def ways(found: Sequence[Record]) -> set[tuple[str, bool]]:
    """Runtime and whether it had several threads."""
    return {(record.runtime, record.threads > 1) for record in found}
