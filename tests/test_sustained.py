"""Runs for a time: what a device does when it gets warm is seen, and a steady one is not accused of it."""

import csv
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Answer
from reports import HOST, ONNX
from sshd import Sshd

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records
from edgeattn.bundle.golden import golden_cases
from edgeattn.bundle.records import Device, Record, Stretch
from edgeattn.errors import BadInputError, TargetError
from edgeattn.profile import heat, sustained
from edgeattn.profile.run import Options, profile
from edgeattn.system import duration
from edgeattn.targets import INTERRUPTED, Connection, Job, Measurement

Run = Callable[..., Answer]
MS = 1_000_000


@dataclass
class Board(Connection):
    """A board with a clock of its own, that gets warm within ten minutes; a job takes a second beside its runs.
    ``slows`` are, by artifact, the times of a run in ms, cold and at its hottest. Of the jobs, that of the number
    ``cut_off`` is interrupted half-way. To give a turn to an artifact takes ``turn_s``."""

    bundle: Path
    slows: dict[str, tuple[float, float]]
    place: str = "board"
    warmup: int | None = None
    runs: int = 50
    now_s: float = 1000.0
    asked: list[list[Job]] = field(default_factory=list)
    trouble: Callable[[int], None] = lambda job: None
    cut_off: int = 0
    turn_s: float = 0.0

    def __post_init__(self) -> None:
        loaded = bundles.load(self.bundle)
        golden = next(iter(golden_cases(loaded).values()))
        self.outputs = {"y": golden.reference("fp32")["y"]}
        self.runtimes = {"onnx": ("onnxruntime",)}
        self.random = np.random.default_rng(0)

    @property
    def heat(self) -> float:
        return min(1.0, (self.now_s - 1000) / 600)

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved([job])[0]

    def run_interleaved(self, jobs: Sequence[Job]) -> tuple[Measurement, ...]:
        self.asked.append(list(jobs))
        self.now_s += 1
        samples = {}
        for job in jobs:
            cold, hot = self.slows[job.artifact.name]
            noise = 1 + 0.01 * self.random.standard_normal(job.runs)
            samples[job.artifact.name] = tuple(int(ns) for ns in MS * (cold + (hot - cold) * self.heat) * noise)
        # The untimed run before each takes as long as the timed one.
        self.now_s += sum(map(sum, samples.values())) * (1 + (len(jobs) > 1)) / 1e9
        self.now_s += self.turn_s * sum(map(len, samples.values()))
        self.trouble(len(self.asked))
        seen = Measurement(
            origin="board",
            device=Device("board", {}),
            runtime=jobs[0].runtime,
            runtime_version="1",
            warmup=0,
            first=self.outputs,
            last=self.outputs,
            after={
                "policy0": f"{2400 - int(900 * self.heat)} MHz (schedutil, at most 2400 MHz)",
                "policy4": "600 MHz (schedutil, at most 1800 MHz)",
                "zone battery": "95.0 °C",
                "zone cpu-thermal": f"{40 + 40 * self.heat:.1f} °C",
                "zone off": "-274.0 °C",
            },
        )
        if len(self.asked) == self.cut_off:
            halves = {name: times[: len(times) // 2 + (name == "int8.onnx")] for name, times in samples.items()}
            seen, samples = replace(seen, last={}, stopped=f"{INTERRUPTED}, after some of its runs"), halves
        return tuple(replace(seen, samples_ns=samples[job.artifact.name]) for job in jobs)


@pytest.fixture
def two(bundle: Path) -> Path:
    """A bundle with two artifacts for one runtime."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    first = next(a for a in manifest["artifacts"] if a["format"] == "onnx")
    (bundle / "int8.onnx").write_bytes((bundle / first["file"]["path"]).read_bytes())
    manifest["artifacts"].append({**first, "file": {**first["file"], "path": "int8.onnx"}})
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    return bundle


@pytest.fixture
def measured(two: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Board, tuple[Record, ...]]]:
    def run(seconds: float, fp32: tuple[float, float], int8: tuple[float, float], **changes: Any) -> Any:
        board = Board(two, {"attention-fp32.onnx": fp32, "int8.onnx": int8}, **changes)
        monkeypatch.setattr(sustained, "monotonic", lambda: board.now_s)
        return board, profile(bundles.load(two), board, Options("host", seconds=seconds)).records

    return run


def test_minute_by_minute(measured: Any) -> None:
    board, found = measured(1200, (10, 11), (8, 12))
    assert board.now_s == pytest.approx(1000 + 1200, abs=5)
    assert not any(job.operators for jobs in board.asked for job in jobs)
    for record in found:
        assert len(record.stretches) == 20
        assert [stretch.end_s for stretch in record.stretches] == pytest.approx(range(60, 1201, 60), abs=3)
        assert all(1200 < stretch.runs < 1700 and 300 < stretch.samples <= 500 for stretch in record.stretches)
        assert record.stretches[-1].temperature_c == 80, "the processor's, not the battery's"
        assert record.stretches[-1].frequency_mhz == 1500
        assert sum(record.starts) == len(record.samples_ns)
        assert record.parity
        assert record.parity.passed
    fp32, int8 = map(heat.course, found)
    assert fp32
    assert int8
    for course, expected in ((fp32, 11 / 10), (int8, 12 / 8)):
        assert course.last_to_first
        assert course.last_to_first.value == pytest.approx(expected, rel=0.01)
        assert course.last_to_first.low < course.last_to_first.value < course.last_to_first.high
    assert int8.sentence.endswith("49% slower than at first, from 44 to 80 °C.")
    # 10 + x = 8 + 4 x at two thirds of 600 s; the job that begins at 480 s is the first with 2 % between them.
    [places] = heat.places(found)
    assert places.changed
    assert places.orders[0] == ("int8.onnx", "attention-fp32.onnx")
    assert places.orders[-1] == ("attention-fp32.onnx", "int8.onnx")
    assert places.sentence == "int8.onnx is the fastest for the first 8 minutes, then attention-fp32.onnx."


def test_a_steady_device_is_not_accused(measured: Any) -> None:
    _, found = measured(600, (10, 10), (10, 10))
    assert [heat.course(record).sentence.split(", ")[2] for record in found] == ["about as fast as at first"] * 2
    [places] = heat.places(found)
    assert not places.changed
    assert "is the fastest from the first stretch to the last." in places.sentence


def test_a_short_time_is_cut_in_tenths(measured: Any) -> None:
    board, found = measured(200, (1, 1), (1, 1))
    assert len(found[0].stretches) == 10
    assert [stretch.end_s for stretch in found[0].stretches] == pytest.approx(range(20, 201, 20), abs=2)
    assert len(board.asked) <= 14, "a job for each stretch, and the first, which tell how fast they are"


@pytest.mark.parametrize("turn_s", [1e-5, 1e-4, 1e-3])
def test_turns_that_take_longer_than_runs(turn_s: float, measured: Any) -> None:
    """A job is no longer than a stretch, whatever the turns between its runs take."""
    board, found = measured(600, (0.01, 0.01), (0.02, 0.02), turn_s=turn_s)
    assert board.now_s == pytest.approx(1000 + 600, abs=6)
    for record in found:
        assert [stretch.end_s for stretch in record.stretches] == pytest.approx(range(60, 601, 60), abs=15)


def test_slow_and_very_fast_artifacts(measured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _, found = measured(60, (9000, 9000), (8000, 8000))
    assert all(len(record.samples_ns) >= 1 and record.stretches for record in found), "a run takes longer than a tenth"
    monkeypatch.setattr(sustained, "MOST_RUNS", 1000)
    board, found = measured(600, (1, 1), (1, 1))
    assert max(job.runs for jobs in board.asked for job in jobs) == 1000
    assert [len(record.stretches) for record in found] == [10, 10], "many jobs are one stretch"
    assert len({record.starts for record in found}) == 1


@pytest.mark.parametrize(
    ("error", "why"), [(KeyboardInterrupt(), INTERRUPTED), (TargetError("it is lost"), "it is lost")]
)
def test_what_ends_it_costs_nothing_before(error: BaseException, why: str, measured: Any) -> None:
    def end(job: int) -> None:
        if job == 5:
            raise error

    _, found = measured(600, (10, 11), (8, 12), trouble=end)
    for record in found:
        assert record.partial
        assert len(record.stretches) == 2
        assert record.untrusted[0].startswith(f"{why}, after 1")
        assert record.untrusted[0].endswith("of 600 s")


@pytest.mark.parametrize(("job", "stretches", "why"), [(5, 3, "after 1"), (1, 1, "before the first stretch")])
def test_ctrl_c_in_a_job_keeps_its_samples(job: int, stretches: int, why: str, measured: Any) -> None:
    _, found = measured(600, (10, 11), (8, 12), cut_off=job)
    for record in found:
        assert record.partial
        assert len(record.stretches) == stretches
        assert 0 < record.stretches[-1].samples <= record.stretches[-1].runs
        assert record.untrusted[0].startswith(INTERRUPTED)
        assert why in record.untrusted[0]
    assert heat.places(found), "their samples still belong together"


def test_an_error_in_the_first_job_is_one(measured: Any) -> None:
    def end(job: int) -> None:
        raise TargetError("it is lost")

    with pytest.raises(TargetError, match="it is lost"):
        measured(600, (10, 11), (8, 12), trouble=end)


def stored(*medians: Sequence[float], spread: float = 0.01) -> list[Record]:
    """Records of artifacts a, b, ... with these medians, in ms, minute by minute."""
    random = np.random.default_rng(1)
    found = []
    for name, times in zip("abcdef", medians, strict=False):
        samples = [int(ns) for ms in times for ns in ms * MS * (1 + spread * random.standard_normal(100))]
        stretches = tuple(Stretch(60.0 * (i + 1), 400, 100) for i in range(len(times)))
        found.append(
            replace(HOST, subject=replace(ONNX, artifact=name), samples_ns=tuple(samples), stretches=stretches)
        )
    return found


@pytest.mark.parametrize(
    ("medians", "sentence"),
    [
        (([5, 5, 6, 7], [6, 6, 6.5, 6.6]), "a is the fastest for the first 3 minutes, then b."),
        (([5, 7, 5], [6, 6, 6]), "a is the fastest for the first 1 minute, then b until 2:00, then a."),
        (([5, 5.06, 5], [5.05, 5, 5.05]), "a is the fastest from the first stretch to the last."),
        (([5, 5], [6, 8], [7, 7]), "a is the fastest from the first stretch to the last; the places behind it change."),
    ],
)
def test_who_is_the_fastest_and_until_when(medians: Any, sentence: str) -> None:
    [places] = heat.places(stored(*medians))
    assert places.sentence == sentence


def test_what_cannot_be_told() -> None:
    [one] = stored([5])
    course = heat.course(one)
    assert course
    assert course.last_to_first is None
    assert "no later stretch" in course.sentence
    assert heat.course(HOST) is None
    assert heat.places([HOST, HOST]) == ()
    assert heat.places(stored([5, 6])) == (), "alone it has no place"
    zero = replace(stored([5, 6])[0], samples_ns=(0,) * 200)
    assert heat.course(zero).last_to_first is None  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"stretches": (Stretch(60, 9, 3),)}, "must be all of its samples"),
        ({"stretches": (Stretch(60, 200, 100), Stretch(60, 200, 100))}, "must follow one another"),
        ({"stretches": (Stretch(60, 100, 200),)}, "keep no more runs than they had"),
        ({"stretches": (Stretch(float("inf"), 200, 200),)}, "must follow one another"),
        ({"stretches": (Stretch(60, 200, 200, float("nan")),)}, "must follow one another"),
    ],
)
def test_stretches_that_cannot_be(changes: Any, why: str) -> None:
    with pytest.raises(BadInputError, match=why):
        replace(HOST, **changes)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5m", 90), ("1s", 1), ("24h", 86400)]
)
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert duration.parse(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "m", "-5m", "0s", "0.5s", "25h", "1e3s", "5 m", "10d", "٣m", "nans"])
def test_what_is_no_length_of_time(text: str, made_bundle: Path, edgeattn: Run) -> None:
    answer = edgeattn("profile", made_bundle, f"--for={text}")
    assert answer.code == 2
    assert "--for" in answer.err
    assert len(answer.err.splitlines()) == 1


@pytest.mark.parametrize(
    "more", [("--starts", 2), ("--runs", 5), ("--target", "emulated-arm"), ("--target", "android", "--cool-down")]
)
def test_what_it_does_not_go_with(more: tuple[object, ...], made_bundle: Path, edgeattn: Run) -> None:
    answer = edgeattn("profile", made_bundle, "--for", "5s", *more)
    assert (answer.code, answer.out) == (2, "")
    assert "leave" in answer.err


def test_on_this_machine(made_bundle: Path, tmp_path: Path, edgeattn: Run) -> None:
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, "--for", "2s", "--runtime", "onnxruntime", "--out", out, "--json")
    assert (answer.code, answer.err) == (0, "")
    [record] = records.load(out).records
    assert len(record.stretches) >= 1
    assert sum(stretch.runs for stretch in record.stretches) > len(record.samples_ns)
    assert 1 < record.stretches[-1].end_s < 60
    [course] = answer.document["courses"]
    assert [minute["runs"] for minute in course["minutes"]] == [stretch.runs for stretch in record.stretches]
    assert answer.document["places"] == []


def test_on_a_board(board: Sshd, made_bundle: Path, tmp_path: Path, edgeattn: Run) -> None:
    """A real sshd on this machine: jobs follow one another in one session."""
    out = tmp_path / "r.json"
    options = ("--target", board.target, "--runtime", "litert", "--for", "2s", "--out", out)
    assert edgeattn("profile", made_bundle, *options).code == 0
    [record] = records.load(out).records
    assert record.origin == "board"
    assert record.stretches
    assert record.stretches[-1].runs >= record.stretches[-1].samples > 0
    assert not record.operators


def test_the_report_draws_it(tmp_path: Path, edgeattn: Run) -> None:
    warm = stored([5, 5.5, 6.5, 7], [6, 6, 6.5, 6.6])
    heated = [
        replace(record, stretches=tuple(replace(s, temperature_c=40.0 + s.end_s / 10) for s in record.stretches))
        for record in warm
    ]
    records.save(tmp_path / "heated.json", tuple(heated))
    for form in ("html", "md", "json", "csv"):
        assert edgeattn("report", tmp_path / "heated.json", "--out", tmp_path / f"r.{form}").code == 0
    page = (tmp_path / "r.html").read_text()
    assert "Sustained use" in page
    assert "minutes from the beginning" in page, "the curves"
    markdown = (tmp_path / "r.md").read_text()
    assert "| 4:00 | 7.00 (p90 " in markdown
    assert re.search(r"\| \*1\.(39|40|41)\* \(1\.\d\d to 1\.\d\d\) \|", markdown), "a is slower, and marked"
    assert "46 to 64" in markdown
    assert "a is the fastest for the first 3 minutes, then b." in markdown
    document = json.loads((tmp_path / "r.json").read_text())
    assert [title["title"] for title in document["sections"] if title["title"] == "Sustained use"] == ["Sustained use"]
    rows = list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))
    assert [float(row["sustained_s"]) for row in rows] == [240, 240]
    assert sorted(float(row["first_p50_ms"]) for row in rows) == pytest.approx([5, 6], rel=0.01)


def test_a_report_without_one_says_nothing_of_it(tmp_path: Path, edgeattn: Run) -> None:
    records.save(tmp_path / "r.json", (HOST,))
    assert edgeattn("report", tmp_path / "r.json", "--out", tmp_path / "r.md").code == 0
    assert "Sustained" not in (tmp_path / "r.md").read_text()
