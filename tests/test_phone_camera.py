"""The camera on the page of ``edgeattn phone --camera``: Chromium films a picture whose answer is known."""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from colours import LABELS, PREPROCESSING, Colours, film, scene
from conftest import Answer
from phone_client import offered, serving
from phone_page import (
    LIMIT_MS,
    PHONE,
    chromium,
    elsewhere,
    lan_chromium,
    launched,
    phone_page,
    playwright,
    replaced,
)
from playwright.sync_api import Browser, Page, Playwright, Request

from edgeattn.bundle import pictures
from edgeattn.phone import camera, server, setup, site

# Fixtures of another file.
__all__ = ["chromium", "elsewhere", "lan_chromium", "playwright"]

pytestmark = pytest.mark.usefixtures("phone_runtimes")
FILMING = ("--use-fake-device-for-media-stream",)
RUNTIMES = ("ONNX Runtime · CPU, 1 thread", "LiteRT · CPU, 1 thread")


@pytest.fixture(scope="module")
def filming(playwright: Playwright, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """Its camera films :func:`scene`."""
    video = film(tmp_path_factory.mktemp("film") / "scene.y4m")
    with launched(playwright, *FILMING, f"--use-file-for-fake-video-capture={video}") as browser:
        yield browser


@pytest.fixture(scope="module")
def addresses(made_colours: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server for each kind of model. Nobody measures there, so that all is well at the end."""
    out = tmp_path_factory.mktemp("out")
    with ExitStack() as stack:
        servers = {
            kind: stack.enter_context(serving(made, "--camera", "--out", out / f"{kind}.json"))
            for kind, made in made_colours.items()
        }
        yield {kind: running.url for kind, running in servers.items()}
        for running in servers.values():
            code, document, _ = running.interrupt()
            assert (code, document["phones"], document["records"]) == (0, 0, [])


@contextmanager
def camera_page(browser: Browser, url: str, **changed: tuple[str, str]) -> Iterator[Page]:
    """The page, allowed to use the camera. ``changed``: its modules by name, with a text that becomes another."""
    with browser.new_context(**PHONE, permissions=["camera"]) as context:
        for name, (text, other) in changed.items():
            context.route(f"**/page/camera/{name}.js", partial(replaced, text=text, other=other))
        page = context.new_page()
        page.goto(url)
        page.wait_for_selector("#switch:enabled", timeout=LIMIT_MS)
        yield page


def start(page: Page, way: str) -> None:
    """Run the model in that way, and wait for its answers."""
    page.select_option("#choice", label=next(o for o in page.locator("#choice option").all_inner_texts() if way in o))
    page.click("#switch")
    page.locator("#speed", has_text=re.compile(r" [1-9][\d.]* frames a second")).wait_for(timeout=LIMIT_MS)


def shares(page: Page) -> dict[str, float]:
    """Of one answer: the next one takes its lines away."""
    texts = "[...document.querySelectorAll('#best li')].map((line) => [...line.children].map((e) => e.textContent))"
    lines = page.evaluate(texts)
    return {name: float(share.removesuffix(" %")) / 100 for name, share, _ in lines}


def expected() -> dict[str, float]:
    """The reference's answer to the scene."""
    pixels = pictures.as_bytes(scene(), PREPROCESSING, (1, 3, 32, 32))
    logits = Colours()(torch.from_numpy(pictures.normalised(pixels, PREPROCESSING)).float())
    return dict(zip(LABELS, logits.softmax(1)[0].tolist(), strict=True))


def is_the_answer(found: dict[str, float]) -> bool:
    """In the reference's order, and near its shares: a canvas smooths otherwise than Pillow, and a camera's
    colours are rounded."""
    wanted = expected()
    order = sorted(wanted, key=lambda name: -wanted[name])
    return list(found) == order and all(abs(found[name] - wanted[name]) < 0.01 for name in order)


@pytest.mark.parametrize("way", RUNTIMES)
@pytest.mark.parametrize("kind", ["values", "bytes"])
def test_live_answers(kind: str, way: str, addresses: dict[str, str], filming: Browser) -> None:
    """The reference's answer, frame after frame, from files that take bytes and from others."""
    with camera_page(filming, addresses[kind]) as page:
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        start(page, way)
        assert is_the_answer(shares(page))
        assert re.match(r"[\d.]+ ms in the model · [\d.]+ frames a second", page.inner_text("#speed"))
        track = page.evaluate_handle("document.getElementById('video').srcObject.getVideoTracks()[0]")
        page.click("#switch")
        assert track.evaluate("track => track.readyState") == "ended"
        assert page.inner_text("#speed") == "No frame yet."
        assert page.locator("#best li").count() == 0
        assert not [text for text in complaints if "Content Security Policy" in text]


BROKEN = {
    "the channels in another order": ("frame", "pixels[4 * pixel + colour]", "pixels[4 * pixel + 2 - colour]"),
    "another range of values": ("frame", "= numbers[byte]", "= byte / 255"),
    "the whole frame": ("frame", "if (stretch)", "if (true)"),
    "no softmax": ("answer", "softmax(values)", "values"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_page_is_found_out(broken: str, addresses: dict[str, str], filming: Browser) -> None:
    name, text, other = BROKEN[broken]
    with camera_page(filming, addresses["values"], **{name: (text, other)}) as page:
        start(page, RUNTIMES[0])
        assert not is_the_answer(shares(page))


def test_the_classes_of_pixels_lie_over_the_picture(addresses: dict[str, str], filming: Browser) -> None:
    with camera_page(filming, addresses["pixels"]) as page:
        start(page, "LiteRT")
        assert shares(page) == {"red": 1.0}
        colours = page.evaluate("""() => {
            const map = document.getElementById("map");
            return [...map.getContext("2d").getImageData(0, 0, map.width, map.height).data];
        }""")
        assert len(colours) == 4 * 32 * 32
        bar = page.evaluate("getComputedStyle(document.querySelector('#best .bar')).backgroundColor")
        assert bar == f"rgb({colours[0]}, {colours[1]}, {colours[2]})"
        assert colours[:4] * 1024 == colours
        assert colours[3] == 255


def test_no_frame_leaves_the_page(made_colours: dict[str, Path], addresses: dict[str, str], filming: Browser) -> None:
    """While it loads, it asks for listed files and sends nothing; while it answers frames, not even that."""
    plan = offered(made_colours["values"])
    listed = set(site.files(plan, setup.ready(), {}) | camera.files(plan))
    asked: list[Request] = []
    with camera_page(filming, addresses["values"]) as page:
        page.context.on("request", lambda request: asked.append(request))
        page.reload()
        page.wait_for_selector("#switch:enabled")
        start(page, RUNTIMES[0])
        root = page.url
        assert len(asked) > 20
        assert {request.method for request in asked} == {"GET"}
        assert all(request.post_data_buffer is None for request in asked)
        assert {request.url.removeprefix(root) for request in asked} <= listed
        asked.clear()
        page.evaluate("""async () => {
            const seen = new Set();
            const speed = document.getElementById("speed");
            while (seen.size < 5) {
                seen.add(speed.textContent);
                await new Promise((resolve) => setTimeout(resolve, 50));
            }
        }""")
        assert asked == []
        # What would be found out: a frame that is sent, inside the page's own origin. Elsewhere, the browser refuses.
        page.evaluate("fetch('join', { method: 'POST', body: 'a frame' })")
        assert [request.method for request in asked] == ["POST"]
        assert page.evaluate("fetch('https://example.org/').then(() => 'sent', () => 'refused')") == "refused"


def test_the_same_server_measures(made_colours: dict[str, Path], chromium: Browser, tmp_path: Path) -> None:
    with serving(made_colours["bytes"], "--camera", "--out", tmp_path / "r.json", "--runs", 2) as running:
        with phone_page(chromium, running.url) as page:
            page.click("text=Measure this model")
            page.wait_for_selector("li.finished", timeout=LIMIT_MS)
        code, document, _ = running.interrupt()
    assert (code, document["phones"], document["passed"]) == (0, 1, True)


def test_a_refused_camera_is_one_sentence(addresses: dict[str, str], filming: Browser) -> None:
    with phone_page(filming, addresses["values"]) as page:
        page.click("#switch")
        page.wait_for_selector("#notice:not([hidden])")
        assert page.inner_text("#notice") == (
            "The browser refused the camera: allow it for this page in the browser's settings, and tap the button "
            "again."
        )
        assert page.inner_text("#switch") == "Start the camera"


def test_without_a_camera(addresses: dict[str, str], chromium: Browser) -> None:
    with camera_page(chromium, addresses["values"]) as page:
        page.click("#switch")
        page.wait_for_selector("#notice:not([hidden])")
        assert page.inner_text("#notice").startswith("The browser finds no camera: connect one")


def test_a_way_that_does_not_run(addresses: dict[str, str], filming: Browser) -> None:
    """Its reason is said, the camera is off, and another way runs."""
    with camera_page(filming, addresses["values"]) as page:
        page.context.route("**/runtimes/ort/*", lambda route: route.abort())
        page.select_option("#choice", index=0)
        page.click("#switch")
        page.wait_for_selector("#notice:not([hidden])")
        assert re.fullmatch(r"It does not run so, .*: choose another way to run it\.", page.inner_text("#notice"))
        assert page.evaluate("document.getElementById('video').srcObject") is None
        start(page, RUNTIMES[1])
        assert page.is_hidden("#notice")


def test_plain_http_has_no_camera(
    elsewhere: str, lan_chromium: Browser, made_colours: dict[str, Path], tmp_path: Path
) -> None:
    options = ("--camera", "--host", "lan", "--http", "--out", tmp_path / "r.json")
    with serving(made_colours["values"], *options, before=["ip", "netns", "exec", elsewhere]) as running:
        with phone_page(lan_chromium, running.url) as page:
            page.wait_for_selector("#notice:not([hidden])")
            assert "only to pages that came over https or from localhost" in page.inner_text("#notice")
            assert "without --http" in page.inner_text("#notice")
            assert page.is_disabled("#switch")
        running.interrupt()


def test_https_asks_for_the_camera(
    elsewhere: str, lan_chromium: Browser, made_colours: dict[str, Path], tmp_path: Path
) -> None:
    """Behind the warning the page is secure enough: the browser only finds no camera here."""
    options = ("--camera", "--host", "lan", "--out", tmp_path / "r.json")
    with serving(made_colours["values"], *options, before=["ip", "netns", "exec", elsewhere]) as running:
        granted = {"ignore_https_errors": True, "permissions": ["camera"]}
        with phone_page(lan_chromium, running.url, **granted) as page:
            page.click("#go")
            page.click("#switch")
            page.wait_for_selector("#notice:not([hidden])")
            assert page.inner_text("#notice").startswith("The browser finds no camera")
        running.interrupt()


def test_without_the_option_nothing_of_it_is_there(
    made_colours: dict[str, Path], chromium: Browser, tmp_path: Path
) -> None:
    """Neither its files nor its header; with it, the rest of the headers are the same."""
    kept = {}
    for options in ((), ("--camera",)):
        with serving(made_colours["values"], "--out", tmp_path / "r.json", "--runs", 2, *options) as running:
            with phone_page(chromium, running.url) as page:
                answers = {path: page.request.get(running.url + path) for path in ("", "camera.json", "measure")}
                answers |= {name: page.request.get(f"{running.url}page/camera/{name}") for name in _names()}
                assert page.locator("video").count() == len(options)
            headers = answers[""].headers
            assert headers.pop("permissions-policy", None) == ("camera=(self)" if options else None)
            kept[options] = {name: headers[name.lower()] for name in server.HEADERS}
            assert {name for name, answer in answers.items() if answer.ok} == ({""} if not options else set(answers))
            running.interrupt()
    assert kept[()] == kept["--camera",] == server.HEADERS


def _names() -> list[str]:
    return [path.name for path in (setup.data("page") / "camera").iterdir() if path.name != "index.html"]


def test_a_model_that_takes_no_picture(edgeattn: type[Answer], made_colours: dict[str, Path], tmp_path: Path) -> None:
    """One sentence, exit code 2, nothing written."""

    def without(name: str, change: dict[str, Any]) -> Path:
        folder = Path(shutil.copytree(made_colours["values"], tmp_path / name))
        manifest = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**manifest, **change}))
        return folder

    (taken,) = json.loads((made_colours["values"] / "manifest.json").read_text())["inputs"]
    tokens = without("tokens", {"inputs": [{**taken, "shape": [1, 64, 4, 256]}]})
    unknown = without("unknown", {"preprocessing": {}})
    other = without("other", {"preprocessing": {"mean": [0.5, 0.5]}})
    out = tmp_path / "out" / "r.json"
    out.parent.mkdir()
    for folder, said in (
        (tokens, "--camera is for a model that takes a picture: "),
        (unknown, "export it with --preprocessing FILE.json"),
        (other, "numbers as mean or std, and the model takes 3 channels"),
    ):
        answer = edgeattn("phone", folder, "--camera", "--out", out)
        assert answer.code == 2, answer.err
        assert said in answer.err
        assert answer.err.count("\n") == 1
    assert list(out.parent.iterdir()) == []
