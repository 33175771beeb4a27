"""A report in a real browser: it asks for nothing, complains of nothing, and fits a phone and a desktop."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reports import HOST, content
from test_report import hostile

from edgeattn.report import forms
from edgeattn.report.compose import compose
from edgeattn.report.content import Content

# How wide the page is, and what sticks out of the window.
OVERFLOW = """
const wide = document.documentElement.clientWidth
return {
  wide: wide,
  page: document.documentElement.scrollWidth,
  out: [...document.querySelectorAll('body *')].filter(e => !e.closest('svg, thead') || e.tagName == 'svg')
    .filter(e => e.getBoundingClientRect().right > wide + 1).map(e => e.tagName + ' ' + e.className),
}
"""
# Contrast of every text with what is behind it, by WCAG; the page has no picture behind text.
CONTRAST = """
const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4)
                     return .2126 * r + .7152 * g + .0722 * b }
const rgb = s => s.match(/[\\d.]+/g).map(Number)
const behind = e => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor)
                      if (c.length < 4 || c[3] == 1) return c.slice(0, 3) } return [255, 255, 255] }
let least = 99, where = ''
for (const e of document.querySelectorAll('body *')) {
  if (![...e.childNodes].some(n => n.nodeType == 3 && n.data.trim())) continue
  const svg = e.closest('svg')
  if (svg && e.tagName != 'text') continue
  const style = getComputedStyle(e)
  const ink = rgb(svg ? style.fill : style.color)
  const [a, b] = [light(ink.slice(0, 3)), light(behind(e))].sort((x, y) => y - x)
  const ratio = (a + .05) / (b + .05)
  if (ratio < least) [least, where] = [ratio, e.tagName + ' ' + e.textContent.slice(0, 30)]
}
return {least, where, page: getComputedStyle(document.body).backgroundColor}
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A headless Chromium; where Debian's packages are missing, the skip names them."""
    binary, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("needs Debian's chromium and chromium-driver: apt-get install -y chromium chromium-driver")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture(scope="module", params=["everything", "a stranger's text", "not measured"])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = {
        "everything": content,
        "a stranger's text": hostile,
        "not measured": lambda: Content(judged=content().judged, not_run=content().not_run),
    }
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_bytes(forms.write(compose(made[request.param]()), path))
    return path


def show(browser: Any, page: Path, *, width: int, scheme: str = "light", media: str = "") -> None:
    """Open the page in a window of that width; the logs begin anew."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    size = {"width": width, "height": 844, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


def asked_for(browser: Any) -> list[str]:
    """Every address that the page asked for, the page's own too."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    sent = [m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent"]
    return [url for url in sent if not url.startswith("data:")]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_it_fits_and_asks_for_nothing(chromium: Any, page: Path, width: int, scheme: str) -> None:
    show(chromium, page, width=width, scheme=scheme)
    assert asked_for(chromium) == [page.as_uri()]
    assert [entry["message"] for entry in chromium.get_log("browser")] == []
    found = chromium.execute_script(OVERFLOW)
    assert found["page"] == found["wide"] <= width
    assert found["out"] == []
    colours = chromium.execute_script(CONTRAST)
    assert colours["least"] >= 4.5, colours["where"]
    red = int(colours["page"].partition("(")[2].partition(",")[0])
    assert red < 60 if scheme == "dark" else red > 200
    with pytest.raises(Exception, match="no such alert"):
        chromium.switch_to.alert.accept()


def test_text_in_pictures_can_be_read_on_a_phone(chromium: Any, page: Path) -> None:
    show(chromium, page, width=390)
    sizes = chromium.execute_script(
        "return [...document.querySelectorAll('svg text')].map(t =>"
        " parseFloat(getComputedStyle(t).fontSize) * t.ownerSVGElement.getScreenCTM().a)"
    )
    assert all(size >= 6.5 for size in sizes)


def test_the_first_screen_has_the_verdict_and_the_table(chromium: Any, page: Path) -> None:
    show(chromium, page, width=1280)
    tops = chromium.execute_script(
        "return ['.verdict', '.statement .answer', 'table'].map(s =>"
        " document.querySelector(s).getBoundingClientRect().top)"
    )
    assert tops == sorted(tops)
    assert tops[-1] < 844


# Tables that stand in something folded, and so are not seen.
FOLDED = "return [...document.querySelectorAll('details table')].filter(t => !t.checkVisibility()).length"


def test_it_prints_in_light_colours_and_whole(chromium: Any, page: Path) -> None:
    for media in ("screen", "print"):
        show(chromium, page, width=1280, scheme="dark", media=media)
        chromium.execute_script("document.querySelectorAll('details').forEach(d => d.open = false)")
        printed = media == "print"
        colour = chromium.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert (colour == "rgb(255, 255, 255)") == printed
        assert (chromium.execute_script(FOLDED) == 0) == printed


def test_these_checks_can_fail(chromium: Any, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    good = forms.write(compose(Content(records=(replace(HOST, operators=()),))), page).decode()
    broken = good.replace("default-src 'none'; ", "").replace("img-src data:", "")
    broken = broken.replace("</main>", "<img src='nosuch.png'><div style='width:2000px;color:#fafafa'>x</div></main>")
    page.write_text(broken)
    show(chromium, page, width=390)
    assert len(asked_for(chromium)) == 2
    assert chromium.get_log("browser")
    assert chromium.execute_script(OVERFLOW)["out"]
    assert chromium.execute_script(CONTRAST)["least"] < 1.5
