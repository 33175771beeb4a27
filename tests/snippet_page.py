"""JavaScript snippets on a page of their own in Chromium, with the runtimes of the phone's page beside them."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from phone_page import LIMIT_MS
from playwright.sync_api import Browser

# What a bundler would do with the names of packages.
PAGE = """<!doctype html>
<script type="importmap">{"imports": {
  "onnxruntime-web": "./runtimes/ort/ort.wasm.min.mjs", "@litertjs/core": "./runtimes/litert/index.js"}}</script>
<img src="picture.png">
<script type="module">
import("./app.js").then(() => console.log("done"), (error) => console.log("done " + error));
</script>
"""


class _Quiet(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}  # noqa: RUF012

    def log_message(self, format: str, *args: object) -> None:
        pass


def unpack(runtimes: Path, folder: Path) -> None:
    """The runtimes as an app would serve them."""
    for packed in runtimes.rglob("*.gz"):
        name = packed.relative_to(runtimes).with_suffix("")
        for place in (Path("runtimes") / name, *([Path("litert_wasm") / name.name] if "wasm_" in name.name else [])):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            (folder / place).write_bytes(gzip.decompress(packed.read_bytes()))


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/page.html"
        finally:
            server.shutdown()


def run(browser: Browser, folder: Path, code: str) -> str:
    """What the snippet prints on the console, in a ``folder`` with the runtimes, the picture and the artifact."""
    (folder / "app.js").write_text(code, encoding="utf-8")
    (folder / "page.html").write_text(PAGE)
    lines: list[str] = []
    with _served(folder) as url, browser.new_context() as context:
        page = context.new_page()
        page.on("console", lambda message: lines.append(message.text) if message.type == "log" else None)
        with page.expect_console_message(lambda message: message.text.startswith("done"), timeout=LIMIT_MS) as end:
            page.goto(url)
        assert end.value.text == "done", end.value.text
    return "\n".join(lines[: lines.index("done")]) + "\n"
