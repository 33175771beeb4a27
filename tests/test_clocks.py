"""A clock that is set forwards and back, by years, while something runs: dates are said, nothing depends on them."""

import ast
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from test_profile import OPTIONS, Fake
from test_studies import Fast, build

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.phone import certificate, phones
from edgeattn.profile import comparison
from edgeattn.profile import run as profiles
from edgeattn.profile.studies import Group, Variant, _run, layout
from edgeattn.targets.emulated_arm import toolchain

ROOT = Path(__file__).parent.parent
DAYS = (datetime(2026, 11, 25, tzinfo=UTC), datetime(2106, 2, 7, tzinfo=UTC), datetime(1970, 1, 1, tzinfo=UTC))


def clock(*days: datetime) -> Any:
    """A stand-in for ``datetime``, whose ``now`` gives these, over and over."""
    given: Iterator[datetime] = cycle(days)

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return next(given)

    return Clock


def test_what_measures_does_not_ask_what_day_it_is() -> None:
    """Spans are of monotonic clocks; dates are all in UTC."""
    asked = set()
    for package in ("edgeattn", "export", "sample_models"):
        for file in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text())):
                called = ast.unparse(node) if isinstance(node, ast.Call) else ""
                if called in ("time.time()", "time.time_ns()", "datetime.now()", "datetime.utcnow()"):
                    asked.add(f"{file.name}: {called}")
    for script in (ROOT / "edgeattn" / "phone" / "page").glob("*.js"):
        if "Date.now" in script.read_text() or "new Date" in script.read_text():
            asked.add(script.name)
    assert not asked


def test_a_profile(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profiles, "datetime", clock(*DAYS))
    found = profiles.profile(bundles.load(bundle), Fake(bundle), replace(OPTIONS, threads=(1, 2)))
    assert found.passed
    assert len({record.started_at for record in found.records}) > 1
    records.save(tmp_path / "r.json", found.records, found.not_run)
    assert records.load(tmp_path / "r.json").records == found.records


def test_a_study_whose_clock_stands_still(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not measured in turn is not compared as if it had been, whatever the clock says."""
    forms = [Variant({"shape": "1", "form": form}, build, False) for form in ("reference", "folded")]
    monkeypatch.setattr(layout.STUDY, "groups", lambda quick: (Group("1", tuple(forms), runs=5),))
    monkeypatch.setattr(_run, "datetime", clock(DAYS[0]))
    target = Fast({"onnx": ("onnxruntime", "another")})
    found = _run.run("layout", target, _run.Options("host", formats=("onnx",)), tmp_path)
    assert len(found.records) == 4
    assert len({record.group for record in found.records}) == 2
    assert len(comparison.ratios(found.records)) == 2


def test_a_study_goes_on_in_another_year(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    groups = tuple(Group(s, (Variant({"shape": s, "form": "reference"}, build, False),), runs=5) for s in "123")
    monkeypatch.setattr(layout.STUDY, "groups", lambda quick: groups)
    options = _run.Options("host", formats=("onnx",))
    for day in (DAYS[1], DAYS[2]):
        monkeypatch.setattr(_run, "datetime", clock(day))
        target = Fast({"onnx": ("onnxruntime",)}, interrupted_at=2)
        found = _run.run("layout", target, options, tmp_path)
    assert found.stopped
    assert [record.started_at[:4] for record in found.records] == ["2106", "1970"]
    assert [record.labels["shape"] for record in found.records] == ["1", "2"]


def test_a_phone_whose_computer_is_set_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """A session, its token and its results have no age."""
    monkeypatch.setattr(phones, "datetime", clock(*DAYS))
    assert [phones.now()[:4] for _ in DAYS] == ["2026", "2106", "1970"]
    for day in DAYS:
        monkeypatch.setattr(certificate, "datetime", clock(day))
        made = x509.load_pem_x509_certificate(certificate.make("192.0.2.1")[0])
        assert made.not_valid_before_utc < day < made.not_valid_after_utc
        assert made.not_valid_after_utc - made.not_valid_before_utc == timedelta(days=7)


def test_what_was_set_up_has_no_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "_missing_packages", lambda: None)
    monkeypatch.setattr(toolchain, "_build", lambda folder, say: None)
    folder = toolchain.build().folder
    for day in DAYS:
        os.utime(folder, (day.timestamp(), day.timestamp()))
        monkeypatch.setattr(toolchain, "_build", pytest.fail)
        assert toolchain.build().folder == folder
