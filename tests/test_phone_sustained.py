"""`edgeattn phone --for`: the page runs each artifact for a time, and the record has its stretches."""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer
from phone_client import ANDROID, Client, offered, serving
from phone_page import chromium, playwright, visit
from playwright.sync_api import Browser
from pydantic import ValidationError

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.records import Record
from edgeattn.errors import BadInputError
from edgeattn.phone import plan as plans
from edgeattn.phone import results
from edgeattn.phone.messages import Join, Result
from edgeattn.profile import heat

# Fixtures of another file.
__all__ = ["chromium", "playwright"]

TWO = [{"end_s": 9.0, "runs": 100, "samples": 2}, {"end_s": 18, "runs": 90, "samples": 2}]
SAMPLES = [1_000_000, 1_000_000, 1_200_000, 1_200_000]


def recorded(bundle: Path, seconds: float | None, samples: list[int], **changes: Any) -> Record:
    client = Client("http://localhost:1/x/", offered(bundle))
    plan = plans.make_plan(bundles.load(bundle), runs=4, runtime_versions={"onnxruntime-web": "1"}, seconds=seconds)
    message = client.result(next(iter(plan.tasks)), samples=samples, **changes)
    sent = Result.model_validate_json(json.dumps(message))
    assert sent.seen
    by = results.sender(Join(**ANDROID), session="s", local=False)
    return results.record(plan, plan.tasks[sent.task], sent.seen, by, started_at="", command="")


def test_its_stretches_are_the_records(made_bundle: Path) -> None:
    record = recorded(made_bundle, 18, SAMPLES, stretches=TWO)
    assert [(s.end_s, s.runs, s.samples) for s in record.stretches] == [(9, 100, 2), (18, 90, 2)]
    assert not record.partial
    course = heat.course(record)
    assert course
    assert [minute.p50_ns for minute in course.minutes] == [1_000_000, 1_200_000]


def test_one_that_ended_early_is_partial(made_bundle: Path) -> None:
    record = recorded(made_bundle, 90, SAMPLES, stretches=TWO)
    assert record.partial
    assert record.untrusted[0] == "it ended after 18 of 90 s"


@pytest.mark.parametrize(
    ("seconds", "stretches", "why"),
    [
        (18, [], "stretches belong to a run for a time"),
        (None, TWO, "stretches belong to a run for a time"),
        (18, TWO[:1], "must be all of its samples"),
        (18, TWO[::-1], "must follow one another"),
    ],
)
def test_stretches_that_do_not_fit_are_refused(seconds: float, stretches: Any, why: str, made_bundle: Path) -> None:
    with pytest.raises(BadInputError, match=why):
        recorded(made_bundle, seconds, SAMPLES, stretches=stretches)


@pytest.mark.parametrize(
    "stretches",
    [[{**TWO[0], "end_s": "9"}], [{**TWO[0], "more": 1}], [{**TWO[0], "runs": -1}], [{**TWO[0], "end_s": 1e9}]],
)
def test_stretches_have_bounds(stretches: Any, made_bundle: Path) -> None:
    client = Client("http://localhost:1/x/", offered(made_bundle))
    message = client.result(next(iter(client.plan.tasks)), samples=SAMPLES, stretches=stretches)
    with pytest.raises(ValidationError):
        Result.model_validate_json(json.dumps(message))


def test_in_chromium(phone_runtimes: Path, bundle: Path, chromium: Browser, tmp_path: Path) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    manifest["artifacts"] = [each for each in manifest["artifacts"] if each["format"] == "onnx"]
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    out = tmp_path / "r.json"
    with serving(bundle, "--out", out, "--wait", 1, "--for", "1s") as server:
        visit(chromium, server.url)
        code, document, _ = server.wait()
    assert code == 0, document
    found = records.load(out).records
    assert found
    for record in found:
        assert not record.partial
        assert 2 <= len(record.stretches) <= 11, "tenths of the time; a run of some tens of ms may leave one out"
        assert record.stretches[-1].end_s >= 1
        assert sum(stretch.samples for stretch in record.stretches) == len(record.samples_ns) <= plans.KEPT
        assert record.parity
        assert record.parity.passed


@pytest.mark.parametrize(
    ("more", "why"), [(["--for", "x"], "such as 90s"), (["--for", "5m", "--runs", 9], "leave --runs")]
)
def test_what_is_refused(more: list[object], why: str, made_bundle: Path, edgeattn: Any) -> None:
    answer: Answer = edgeattn("phone", made_bundle, *more)
    assert answer.code == 2
    assert why in answer.err
