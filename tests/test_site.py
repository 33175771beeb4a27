"""The documentation site is built without a warning, from every page, and asks for nothing from anywhere else."""

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))


def build(root: Path, out: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(out)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("site")
    done = build(ROOT, out)
    assert done.returncode == 0, done.stderr
    return out


class Loaded(HTMLParser):
    """What a page loads by itself: everything but the links that a reader may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag != "a":
            self.found += [value for name, value in attrs if name in ("src", "href", "srcset", "data") and value]


def test_every_page_is_there_and_can_be_reached(site: Path) -> None:
    menu = (site / "index.html").read_text()
    for page in PAGES:
        assert (site / f"{page.stem}.html").is_file()
        assert f'href="{page.stem}.html"' in menu, f"{page.name} is not in the nav of mkdocs.yml"


def test_nothing_is_asked_of_others(site: Path) -> None:
    for page in site.glob("*.html"):
        loaded = Loaded()
        loaded.feed(page.read_text())
        assert loaded.found
        assert not [source for source in loaded.found if re.match(r"(\w+:)?//", source)]
        # The theme would fetch it for a diagram.
        assert "mermaid" not in page.read_text()


def test_the_public_names_have_their_pages(site: Path) -> None:
    api = (site / "api.html").read_text()
    for name in (
        "edgeattn.attention.LinearSelfAttention",
        "edgeattn.lowering.rewrite.lower",
        "edgeattn.parity.metrics.compare",
        "edgeattn.profile.latency.summary",
        "edgeattn.bundle.records.Record",
        "edgeattn.errors.MissingError",
        "edgeattn.bundle.manifest.Manifest",
        "edgeattn.formats.Job",
        "edgeattn.runtimes.Session",
        "edgeattn.targets.Connection",
        "edgeattn.profile.studies.Variant",
    ):
        assert f'id="{name}"' in api, name


def test_a_broken_link_fails(tmp_path: Path) -> None:
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    (tmp_path / "docs").mkdir()
    for page in PAGES:
        (tmp_path / "docs" / page.name).write_text("# A page\n\nNothing here.\n")
    (tmp_path / "docs/index.md").write_text("# A page\n\n[nowhere](nowhere.md)\n")
    done = build(tmp_path, tmp_path / "site")
    assert done.returncode != 0
    assert "WARNING" in done.stderr
    assert "'nowhere.md'" in done.stderr
