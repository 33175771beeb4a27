"""Old records against new ones: judged on stored samples, never by measuring."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Answer
from test_records import TIMED

from benchmarks import gate
from edgeattn.bundle import records
from edgeattn.bundle.records import Counts, Device, Likeness, Record
from edgeattn.errors import BadInputError
from edgeattn.profile import comparison, growth
from edgeattn.profile.comparison import Limits, compare, ratios

Command = Callable[..., Answer]


def timed(ms: float, *, share: float = 0.02, seed: int = 0, n: int = 50, starts: int = 5, **changes: Any) -> Record:
    """``n`` samples in all."""
    noise = 1 + share * np.random.default_rng(seed).standard_normal(n)
    numbers = (n // starts,) * starts if starts > 1 else ()
    return replace(TIMED, samples_ns=tuple(int(x) for x in ms * 1e6 * noise), starts=numbers, **changes)


def counted(total: int, *, spread: int = 0, **changes: Any) -> Record:
    counts = tuple(Counts(total + i * spread, total // 2, total // 4) for i in range(3))
    emulated = replace(TIMED, origin="emulated", samples_ns=(), load_ns=None, counts=counts, target="emulated-arm")
    return replace(emulated, **changes)


def only(old: Record, new: Record, quantity: str, limits: Limits = Limits()) -> comparison.Change:  # noqa: B008 it is frozen
    found = compare(old=[old], new=[new], limits=limits).changes
    return next(change for change in found if change.quantity == quantity)


@pytest.mark.parametrize(
    ("ms", "verdict", "passed"),
    [(1.0, "same", True), (0.9, "faster", True), (1.05, "slower", True), (1.3, "slower", False)],
)
def test_verdicts_of_time(ms: float, verdict: str, passed: bool) -> None:
    change = only(timed(1.0), timed(ms, seed=1), "time")
    assert (change.verdict, change.passed) == (verdict, passed)
    assert change.growth is not None
    assert change.growth.low <= ms <= change.growth.high


def test_what_is_not_certain_fails_only_if_asked() -> None:
    """15 % slower, but so noisy that the interval reaches below the limit."""
    old, new = timed(1.0, share=0.3), timed(1.15, share=0.3, seed=1)
    change = only(old, new, "time")
    assert change.passed
    assert "it may be over the limit or not: about" in change.note
    strict = only(old, new, "time", Limits(strict=True))
    assert (strict.verdict, strict.passed) == ("can't tell", False)
    assert only(timed(1.0), timed(1.15, seed=1), "time").passed is False
    for limits in (Limits(slowdown=1.3), Limits(slowdown=1.3, strict=True)):
        assert only(timed(1.0), timed(1.15, seed=1), "time", limits).passed


def test_one_start_says_little_of_the_next() -> None:
    """A growth that two other starts could show is not called slower; one beyond that is."""
    old = timed(1.0, starts=1)
    for new in (timed(1.15, starts=1, seed=1), timed(1.15, starts=2, seed=1)):
        change = only(old, new, "time")
        assert (change.verdict, change.passed) == ("can't tell", True)
        assert "about 5 starts of each would tell (profile --starts)" in change.note
        assert only(old, new, "time", Limits(strict=True)).passed is False
    assert only(old, timed(1.6, starts=1, seed=1), "time").passed is False


def test_doubts_are_said_and_hide_nothing() -> None:
    doubtful = timed(1.3, seed=1, untrusted=("the times drift",))
    change = only(timed(1.0), doubtful, "time")
    assert change.passed is False
    assert "NEW not to be trusted" in change.note


def test_other_devices_are_not_compared_in_time() -> None:
    other = Device("there", {"machine": "x86_64"})
    change = only(timed(1.0), timed(9.0, device=other), "time")
    assert (change.verdict, change.passed, change.growth) == ("can't tell", False, None)
    assert "not the same device" in change.note
    assert only(timed(1.0), timed(9.0, device=other), "time", Limits(allow_missing=True)).passed
    alike = {"cpu": "Zen 9", "cores": "2"}
    old, new = timed(1.0, device=Device("a", alike)), timed(9.0, device=Device("b", alike))
    assert only(old, new, "time").passed is False


@pytest.mark.parametrize(
    ("total", "spread", "verdict", "passed"),
    [(1000, 0, "same", True), (1001, 0, "more", True), (900, 0, "fewer", True), (1200, 0, "more", False),
     (999, 1, "same", True)],
)  # fmt: skip
def test_verdicts_of_counts(total: int, spread: int, verdict: str, passed: bool) -> None:
    change = only(counted(1000), counted(total, spread=spread), "instructions")
    assert (change.verdict, change.passed) == (verdict, passed)


def test_counts_of_another_core_are_not_compared() -> None:
    cores = [Device(f"emulated {cpu}", {"cpu": cpu}) for cpu in ("cortex-a53", "cortex-a76")]
    change = only(counted(1000, device=cores[0]), counted(9000, device=cores[1]), "instructions")
    assert (change.verdict, change.passed) == ("can't tell", False)
    assert only(counted(1), counted(9, device=cores[0]), "instructions", Limits(allow_missing=True)).passed


def test_what_is_measured_no_more_fails() -> None:
    """Samples, counts, numbers that are gated, a whole record; unless that is allowed."""
    partial = replace(timed(1.0), samples_ns=(), starts=(), partial=True)
    uncounted = replace(counted(1000), counts=(), partial=True)
    pairs: list[tuple[Record, Record, str, dict[str, Any]]] = [
        (timed(1.0), partial, "time", {}),
        (timed(1.0), partial, "p99", {"p99": 2.0}),
        (counted(1000), uncounted, "instructions", {}),
        (timed(1.0, load_ns=5), timed(1.0, load_ns=None), "load", {"load": 2.0}),
        (timed(1.0, peak_memory_bytes=5), timed(1.0, peak_memory_bytes=None), "memory", {"memory": 2.0}),
    ]
    for old, new, quantity, gates in pairs:
        change = only(old, new, quantity, Limits(**gates))
        assert (change.verdict, change.passed) == ("missing", False), quantity
        assert only(old, new, quantity, Limits(**gates, allow_missing=True)).passed, quantity
    kept, gone = timed(1.0), timed(1.0, threads=2)
    assert compare(old=[kept, gone], new=[kept], limits=Limits()).passed is False
    assert compare(old=[kept, gone], new=[kept], limits=Limits(allow_missing=True)).passed
    assert compare(old=[kept], new=[kept, gone], limits=Limits()).passed


def test_limits_of_size_and_layout_ops() -> None:
    old, new = timed(1.0), timed(1.0)
    old = replace(old, subject=replace(old.subject, size_bytes=100, layout_ops=0))
    new = replace(new, subject=replace(new.subject, size_bytes=120, layout_ops=2))
    assert compare(old=[old], new=[new], limits=Limits()).passed
    assert only(old, new, "size").verdict == "more"
    assert only(old, new, "size", Limits(size_growth=1.1)).passed is False
    assert only(old, new, "size", Limits(size_growth=1.2)).passed
    assert only(old, new, "layout ops", Limits(layout_ops=1)).passed is False
    assert only(old, new, "layout ops", Limits(layout_ops=2)).passed
    unknown = only(old, replace(new, subject=replace(new.subject, layout_ops=None)), "layout ops", Limits(layout_ops=0))
    assert (unknown.verdict, unknown.passed) == ("missing", False)


def test_a_new_record_with_other_outputs_fails() -> None:
    wrong = Likeness(False, "y of the last run: 900 noise units", 900.0, 500.0, 3.0)
    assert compare(old=[timed(1.0)], new=[timed(0.5, parity=wrong)], limits=Limits()).passed is False


def test_records_find_their_own() -> None:
    """Neither the order nor other artifacts, threads and labels confuse them; what has no partner is named."""
    a, b = timed(1.0), timed(2.0, threads=2)
    c = timed(3.0, labels={"study": "scaling", "tokens": "256"})
    d = timed(4.0, labels={"study": "scaling", "tokens": "512"})
    again = timed(5.0)
    found = compare(old=[a, b, c, again], new=[again, d, b, a], limits=Limits())
    times = [(change.threads, change.old, change.new) for change in found.changes if change.quantity == "time"]
    assert [threads for threads, _, _ in times] == [1, 2, 1]
    assert times[1][1] == times[1][2]
    assert [change.verdict for change in found.changes if change.quantity == "record"] == ["missing"]
    assert (len(found.only_old), len(found.only_new)) == (1, 1)
    assert "attention-fp32.onnx in onnxruntime on host" in found.only_old[0]
    with pytest.raises(BadInputError, match="no record of the same"):
        compare(old=[a], new=[b], limits=Limits())


def test_ratios_of_a_group() -> None:
    subject = TIMED.subject
    one = timed(2.0, group="g", subject=replace(subject, artifact="one"))
    two = timed(1.0, group="g", subject=replace(subject, artifact="two"))
    (ratio,) = ratios([one, two, timed(1.0), timed(1.0, group="alone")])
    assert (ratio.baseline, ratio.candidate) == ("one", "two")
    assert ratio.times_as_fast.value == pytest.approx(2.0, abs=0.01)


def test_on_the_command_line(edgeattn: Command, tmp_path: Path) -> None:
    old, new, slow = (tmp_path / name for name in ("old.json", "new.json", "slow.json"))
    records.save(old, (timed(1.0), counted(1000)))
    records.save(new, (timed(1.0, seed=1), counted(1000)))
    records.save(slow, (timed(1.4), counted(1000)))
    answer = edgeattn("compare", old, new, "--strict")
    assert answer.code == 0, answer.err
    assert "same" in answer.out
    answer = edgeattn("compare", old, slow, "--json")
    assert answer.code == 1
    failed = [change["quantity"] for change in answer.document["changes"] if not change["passed"]]
    assert failed == ["time"]
    assert edgeattn("compare", old, slow, "--max-slowdown", 1.5).code == 0
    assert "slower, over the limit" in edgeattn("compare", old, slow).out
    records.save(new, (timed(1.0, seed=1),))
    answer = edgeattn("compare", old, new)
    assert answer.code == 1
    assert "missing in NEW" in answer.out
    assert edgeattn("compare", old, new, "--allow-missing").code == 0
    records.save(old, (timed(1.0, starts=1),))
    assert edgeattn("compare", old, new).code == 0
    assert "can't tell, which fails" in edgeattn("compare", old, new, "--strict").out
    assert answer.code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("r.json", "b.onnx"), "not one of each"),
        (("a.onnx", "b.onnx", "--strict"), "--strict goes with two files of records"),
        (("a.onnx", "b.onnx", "--max-slowdown", "2"), "--max-slowdown goes with two files of records"),
        (("r.json", "nosuch.json"), "cannot be read"),
        (("r.json", "rubbish.json"), "no file of records"),
        (("r.json", "negative.json"), "negative time"),
        (("r.json", "missing.json"), "must hold a run"),
        (("r.json", "empty.json"), "no record of the same"),
        (("r.json", "newer.json"), "update edgeattn"),
        (("r.json", "r.json", "--max-slowdown", "-1"), "--max-slowdown"),
    ],
)
def test_bad_input(arguments: tuple[str, ...], said: str, edgeattn: Command, tmp_path: Path) -> None:
    good = records.dump((TIMED,)).decode()
    samples = '"samples_ns": [\n        3,\n        2,\n        4\n      ]'
    assert samples in good
    for name, content in {
        "r.json": good,
        "rubbish.json": "rubbish",
        "negative.json": good.replace(samples, '"samples_ns": [3, -2]'),
        "missing.json": good.replace(f"{samples},", ""),
        "empty.json": records.dump(()).decode(),
        "newer.json": good.replace(f'"schema_version": {records.SCHEMA}', '"schema_version": 99'),
    }.items():
        (tmp_path / name).write_text(content)
    given = [tmp_path / word if "." in word and word[0].isalpha() else word for word in arguments]
    answer = edgeattn("compare", *given)
    assert answer.code == 2
    assert said in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_slowdown_of_the_tail_alone_can_be_gated() -> None:
    old = timed(1.0, n=400)
    tail = tuple(int(1.8 * ns) if i % 25 == 7 else ns for i, ns in enumerate(timed(1.0, n=400, seed=1).samples_ns))
    new = replace(old, samples_ns=tail)
    assert compare(old=[old], new=[new], limits=Limits()).passed
    change = only(old, new, "p99", Limits(p99=1.2))
    assert (change.verdict, change.passed) == ("slower", False)
    assert only(old, new, "p99", Limits(p99=1.9)).passed
    assert only(old, timed(1.0, n=400, seed=1), "p99", Limits(p99=1.2)).passed
    # A warning about outliers must not hide the outliers.
    assert only(old, replace(new, untrusted=("outliers",)), "p99", Limits(p99=1.2)).passed is False
    assert only(old, replace(new, device=Device("there", {})), "p99", Limits(p99=1.2)).verdict == "can't tell"


@pytest.mark.parametrize(("quantity", "field"), [("load", "load_ns"), ("memory", "peak_memory_bytes")])
def test_load_and_memory_can_be_gated(quantity: str, field: str) -> None:
    old, new = (timed(1.0, **{field: number}) for number in (1000, 1300))
    limits = [Limits(**{quantity: limit}) for limit in (1.2, 1.4)]
    assert only(old, new, quantity, limits[0]).passed is False
    assert only(old, new, quantity, limits[1]).passed
    assert only(new, old, quantity, limits[0]).verdict == "fewer"
    unknown = only(old, timed(1.0, **{field: None}), quantity, limits[0])
    assert unknown.verdict == "missing"
    never = timed(1.0, **{field: None})
    assert only(never, never, quantity, limits[0]).note == "not measured in OLD and NEW"
    assert only(never, never, quantity, Limits(**{quantity: 2.0}, strict=True)).passed is False
    assert compare(old=[old], new=[new], limits=Limits()).passed


def test_times_of_0_ns_cannot_be_told() -> None:
    none = replace(TIMED, samples_ns=(0,) * 50)
    for old, new in ((none, none), (none, timed(1.0))):
        change = only(old, new, "time")
        assert (change.verdict, change.growth) == ("can't tell", None)
        assert "0 ns" in change.note
    assert ratios([replace(none, group="g"), replace(none, group="g")]) == ()


def test_records_of_other_lengths_are_compared() -> None:
    for starts in (1, 5):
        assert only(timed(1.0, n=50, starts=starts), timed(1.6, n=1500, starts=starts), "time").passed is False
        assert only(timed(1.0, n=1500, starts=starts), timed(1.0, n=50), "time").passed


def test_the_gates_are_options(tmp_path: Path, edgeattn: Command) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    records.save(old, (timed(1.0, load_ns=1000),))
    records.save(new, (timed(1.0, load_ns=1300),))
    assert edgeattn("compare", old, new).code == 0
    assert edgeattn("compare", old, new, "--max-load", 1.2).code == 1
    assert edgeattn("compare", old, new, "--max-p99", 1.2, "--max-load", 1.4).code == 0


def test_of_thousands_of_records_the_failed_are_shown(tmp_path: Path, edgeattn: Command) -> None:
    """The last of 1,200 fails: it stands in the table, which is bounded, and says so."""
    many = [timed(1.0, n=20, starts=1, seed=i, model=f"m{i}") for i in range(1200)]
    slow = replace(many[-1], samples_ns=tuple(3 * ns for ns in many[-1].samples_ns), target="there")
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    records.save(old, (*many[:-1], replace(many[-1], target="there")))
    records.save(new, (*many[:-1], slow))
    answer = edgeattn("compare", old, new)
    assert answer.code == 1
    assert "over the limit" in answer.out
    assert answer.out.count("\n") < 600
    assert "rows more, none of which fails: --json has all" in answer.out
    document = edgeattn("compare", old, new, "--json").document
    assert [change["passed"] for change in document["changes"]].count(False) == 1
    assert len(document["changes"]) == 3600


def test_records_that_are_alike_are_paired_in_order() -> None:
    old, new = [timed(float(ms)) for ms in (1, 2, 3)], [timed(ms * 1.3, seed=1) for ms in (1, 2, 3)]
    times = [c for c in compare(old=old, new=new, limits=Limits()).changes if c.quantity == "time"]
    assert [round(c.old / 1e6) for c in times if c.old] == [1, 2, 3]
    assert not any(c.passed for c in times)


@pytest.mark.parametrize("noise", gate.MODELS.values(), ids=gate.MODELS)
def test_the_gate_by_simulation(noise: gate.Noise) -> None:
    """Of what is no slowdown at most 5 % is called one; of 1.3 times 90 % is seen, where the record has starts."""
    for starts in (1, 5):
        alike = gate.shares(noise, starts=starts, factor=1.0, repeats=100)
        assert alike["slower"] <= 0.05
        assert alike["fails"] <= 0.05
    assert gate.shares(noise, starts=5, factor=1.3, repeats=100)["slower"] >= 0.9


def test_a_gate_that_trusts_single_runs_would_be_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(growth, "SPREAD", 0.0)
    assert gate.shares(gate.MODELS["starts differ by 10 %"], starts=1, factor=1.0, repeats=100)["slower"] > 0.3


def test_students_t() -> None:
    from scipy.stats import t

    for freedom in (4, 5, 8, 20, 1000):
        assert growth.student(freedom) == pytest.approx(t.ppf(0.975, freedom), rel=0.003)
    assert growth.student(2) == pytest.approx(t.ppf(0.975, 2), rel=0.04)


def test_the_starts_that_are_asked_for_tell() -> None:
    """With as many as the note says, most comparisons without growth keep the limit for certain."""
    noise = gate.MODELS["starts differ by 10 %"]
    sides = [growth.Side(0.0, 0.01 / 5, 4, 0.1)] * 2
    starts = growth.needed(*sides, 1.10)
    assert starts == 34
    assert gate.shares(noise, starts=starts, factor=1.0, repeats=100)["can't tell"] < 0.2
    assert growth.needed(growth.Side(0.0, 0.01, 1e9, None), sides[0], 1.10) is None
    assert growth.needed(*[growth.Side(0.0, 1e-9, 4, 1e-9)] * 2, 1.10) == growth.FEWEST
    assert growth.needed(*[growth.Side(0.0, 1.0, 4, 5.0)] * 2, 1.10) is None
