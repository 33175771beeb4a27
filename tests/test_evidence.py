"""The script that says which figures are older than the code that they measure."""

import subprocess
from datetime import date
from pathlib import Path

import pytest

from benchmarks import evidence

ROOT = Path(__file__).parent.parent


def test_every_page_with_a_date_is_known() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    dated = {p.relative_to(ROOT).as_posix() for p in pages if list(evidence.dates(p.read_text()))}
    assert dated <= evidence.MEASURES.keys()
    for paths in evidence.MEASURES.values():
        assert all((ROOT / path).exists() for path in paths), paths


def test_dates() -> None:
    text = "no date\non 2026-11-24 and 25, and 2026-12-01\nversion 2026-13-45x"
    assert list(evidence.dates("\n".join(text.splitlines()[:2]))) == [(2, date(2026, 11, 25)), (2, date(2026, 12, 1))]


def test_what_is_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "MEASURES", {"README.md": ("code",)})
    (tmp_path / "code").mkdir()
    (tmp_path / "README.md").write_text("fast, 2026-01-02\nfaster, 2026-01-04\n")
    (tmp_path / "code/a.py").write_text("1")
    git = ["git", "-c", "user.name=a", "-c", "user.email=a@b"]
    when = {
        "GIT_COMMITTER_DATE": "2026-01-03T12:00:00Z",
        "GIT_AUTHOR_DATE": "2026-01-03T12:00:00Z",
        "HOME": str(tmp_path),
    }
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "a change"]):
        subprocess.run([*git, *command], cwd=tmp_path, check=True, env={"PATH": "/usr/bin:/bin", **when})
    assert [(e.line, e.is_old) for e in evidence.evidence(tmp_path)] == [(1, True), (2, False)]
