"""Records: what is written is what is read, and a bad file is one sentence."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from edgeattn.bundle import records
from edgeattn.bundle.records import Counts, Device, Record, Subject
from edgeattn.errors import ArtifactError, BadInputError

TIMED = Record(
    model="attention",
    subject=Subject("attention-fp32.onnx", "0" * 64, 7, "onnx", "fp32"),
    target="host",
    origin="host",
    device=Device("here", {"machine": "x86_64"}),
    runtime="onnxruntime",
    runtime_version="1",
    versions={"edgeattn": "0.1.0"},
    threads=1,
    warmup=5,
    samples_ns=(3, 2, 4),
    load_ns=9,
)
COUNTED = replace(TIMED, origin="emulated", samples_ns=(), load_ns=None, counts=(Counts(10, 5, 2),))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("old")
    records.save(path, (TIMED, COUNTED))
    assert records.load(path).records == (TIMED, COUNTED)
    assert [p.name for p in tmp_path.iterdir()] == ["r.json"]
    assert records.dump((TIMED,)) == records.dump((TIMED,))


@pytest.mark.parametrize("times", [{"samples_ns": (1,)}, {"load_ns": 1}, {"first_run_ns": 1}])
def test_no_time_comes_from_emulation(times: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match="no times"):
        replace(COUNTED, **times)
    path = tmp_path / "r.json"
    document = json.loads(records.dump((COUNTED,)))
    document["records"][0].update(times)
    path.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="is damaged at"):
        records.load(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no file of records"),
        ("[]", "is no file of records"),
        ('{"schema_version": 5, "records": []}', "has schema 5, and this edgeattn reads 1 to 4"),
        ('{"schema_version": 1, "records": [{}]}', "is damaged at records.0.model"),
    ],
)
def test_bad_files(content: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(ArtifactError, match=said):
        records.load(tmp_path / "r.json")


def test_places_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="cannot be read"):
        records.load(tmp_path / "nosuch.json")
    with pytest.raises(BadInputError, match="cannot be written"):
        records.save(tmp_path / "nosuch" / "r.json", (TIMED,))


def test_records_of_every_schema_stay_readable() -> None:
    golden = Path(__file__).parent / "golden"
    assert records.load(golden / "records-1.json").records == (TIMED, COUNTED)
    newest = golden / f"records-{records.SCHEMA}.json"
    stored = records.load(newest)
    # With every key, in its order; before and after have the old words of the host, and those of a board.
    assert records.dump(stored.records, stored.not_run) == newest.read_bytes()
    assert len(list(golden.glob("records-*.json"))) == records.SCHEMA, "store a file of this schema"


@pytest.mark.parametrize("number", [2**63, 10**400, -1])
@pytest.mark.parametrize(
    "place",
    [
        ("samples_ns", 0),
        ("counts", 0, "total"),
        ("operators", 0, "median_ns"),
        ("subject", "size_bytes"),
        ("subject", "layout_bytes"),
        ("load_ns",),
        ("first_run_ns",),
        ("peak_memory_bytes",),
        ("warmup",),
        ("calls_per_sample",),
        ("clock_step_ns",),
        ("threads",),
    ],
)
def test_numbers_that_no_clock_gives_are_refused(place: tuple[str | int, ...], number: int, tmp_path: Path) -> None:
    """Beyond the range of floats they would be a traceback in a statistic."""
    operator = records.Operator("conv", "Conv", "", 10)
    full = replace(TIMED, operators=(operator,), counts=(Counts(3, 2, 1),), peak_memory_bytes=1)
    full = replace(full, clock_step_ns=1, first_run_ns=1)
    document = json.loads(records.dump((full,)))
    at = document["records"][0]
    for key in place[:-1]:
        at = at[key]
    assert at[place[-1]] is not None or place[-1] == "layout_bytes"
    at[place[-1]] = number
    (tmp_path / "r.json").write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="is damaged at"):
        records.load(tmp_path / "r.json")
