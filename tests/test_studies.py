"""Studies: all forms are one function, what is stored is not measured again, and what the records say is drawn."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from edgeattn.bundle import records
from edgeattn.bundle.records import Counts, Device, Record, Subject
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError, MissingError
from edgeattn.profile.studies import STUDIES, Group, Variant, _run, layout
from edgeattn.report.document import Picture, Table
from edgeattn.report.studies import scaling as scaling_report
from edgeattn.report.studies import sections, statements
from edgeattn.targets import Job, Measurement

OPTIONS = _run.Options("host", quick=True)


class Fast:
    """A target that measures nothing, and counts how often it is asked."""

    place = "nowhere"
    warmup, runs = None, 5

    def __init__(self, runtimes: Mapping[str, tuple[str, ...]], *, interrupted_at: int = 10**9) -> None:
        self.runtimes, self.interrupted_at, self.calls = runtimes, interrupted_at, 0

    def run(self, job: Job) -> Measurement:
        return self.run_interleaved([job])[0]

    def run_interleaved(self, jobs: "list[Job]") -> tuple[Measurement, ...]:
        self.calls += 1
        if self.calls == self.interrupted_at:
            raise KeyboardInterrupt
        outputs: Arrays = {}
        seen = Measurement(
            origin="host",
            device=Device("d", {}),
            runtime="onnxruntime",
            runtime_version="1",
            warmup=0,
            samples_ns=(3_000_000,) * 30,
            first=outputs,
            last=outputs,
        )
        return tuple(seen for _ in jobs)


def build() -> tuple[torch.nn.Module, dict[str, torch.Tensor]]:
    return torch.nn.Conv2d(2, 2, 1).eval(), {"x": torch.randn(1, 2, 2, 2)}


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> None:
    """The layout study with two small groups."""
    groups = tuple(Group(s, (Variant({"shape": s, "form": "reference"}, build, False),), runs=5) for s in ("1", "2"))
    monkeypatch.setattr(layout.STUDY, "groups", lambda quick: groups)


@pytest.mark.parametrize("shape", [(8, 4, 6), (16, 1, 9)])
def test_all_forms_of_the_layout_study_are_one_function(shape: tuple[int, int, int]) -> None:
    expected = None
    for form in layout.FORMS:
        module, inputs = layout._build(form, shape)
        with torch.no_grad():
            found = module.double()(inputs["x"].double())
        expected = found if expected is None else expected
        assert torch.allclose(found, expected, rtol=0, atol=1e-13), form


def test_what_is_stored_is_not_measured_again(study: None, tmp_path: Path) -> None:
    target = Fast({"onnx": ("onnxruntime",)}, interrupted_at=2)
    first = _run.run("layout", target, OPTIONS, tmp_path)
    assert (first.stopped, len(first.records)) == (True, 1)
    assert records.load(tmp_path / _run.STORE).records == first.records
    target = Fast({"onnx": ("onnxruntime",)})
    second = _run.run("layout", target, OPTIONS, tmp_path)
    assert (second.stopped, target.calls) == (False, 1)
    assert {record.labels["shape"] for record in second.records} == {"1", "2"}
    assert second.records[:1] == first.records
    assert _run.run("layout", target, OPTIONS, tmp_path).records == second.records
    assert target.calls == 1
    # Another number of threads is another measurement.
    assert len(_run.run("layout", target, replace(OPTIONS, threads=2), tmp_path).records) == 4


def test_what_is_refused_is_listed_and_the_rest_goes_on(study: None, tmp_path: Path) -> None:
    class Refuses(Fast):
        def run_interleaved(self, jobs: "list[Job]") -> tuple[Measurement, ...]:
            if not self.calls:
                self.calls += 1
                raise BadInputError("it does not fit")
            return super().run_interleaved(jobs)

    found = _run.run("layout", Refuses({"onnx": ("onnxruntime",)}), OPTIONS, tmp_path)
    assert len(found.records) == 1
    first, *others = [entry.reason for entry in found.not_run]
    assert first == "it does not fit"
    assert others == ["nowhere does not run tflite", "nowhere does not run executorch"]


def test_bad_studies(study: None, tmp_path: Path) -> None:
    target = Fast({"onnx": ("onnxruntime",)})
    with pytest.raises(BadInputError, match=r"there is no study 'x'; choose from layout, mobilevit, .*scaling"):
        STUDIES.get("x")
    with pytest.raises(MissingError, match="nowhere runs none of coreml"):
        _run.run("layout", target, replace(OPTIONS, formats=("coreml",)), tmp_path)
    _run.run("layout", target, OPTIONS, tmp_path)
    with pytest.raises(BadInputError, match="holds other records than those of the study scaling"):
        _run.run("scaling", target, OPTIONS, tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BadInputError, match="cannot be made"):
        _run.run("layout", target, OPTIONS, tmp_path / "file" / "s")


def record(study: str, ms: float, **labels: str) -> Record:
    return Record(
        model="m",
        subject=Subject(" ".join(labels.values()), "0" * 64, 2**20, "onnx", "fp32", 1, 2048, 1024),
        target="host",
        origin="host",
        device=Device("here", {}),
        runtime="onnxruntime",
        runtime_version="1",
        versions={},
        threads=1,
        warmup=0,
        samples_ns=(int(ms * 1e6),) * 20,
        labels={"study": study, "runtime": "onnxruntime", **labels},
    )


def test_the_slope_and_the_crossing_of_the_scaling_study() -> None:
    own = [record("scaling", n / 100, attention="separable", tokens=str(n)) for n in (100, 200, 400, 800)]
    own += [record("scaling", n * n / 30_000, attention="multi_head", tokens=str(n)) for n in (100, 200, 400, 800)]
    (section,) = sections(own)
    texts = [part.text for part in section.parts if hasattr(part, "text")]
    assert "power 1.000 of the tokens: linear." in texts[0]
    assert "cross at about 300 tokens" in texts[1]
    assert any(isinstance(part, Picture) and "slope 2.00" in part.description for part in section.parts)
    steep = [record("scaling", n**1.1, attention="separable", tokens=str(n)) for n in (100, 200)]
    (section,) = sections(steep)
    assert "more than the 1.05" in next(part.text for part in section.parts if hasattr(part, "text"))
    bent = [record("scaling", n * (1 + n / 900), attention="separable", tokens=str(n)) for n in (10, 20, 40, 80, 900)]
    (section,) = sections(bent)
    assert "Up to 80 tokens the power is 1.0" in next(part.text for part in section.parts if hasattr(part, "text"))
    assert scaling_report.crossing(*(scaling_report._series(k, own) for k in ("separable", "separable"))) is None


def test_the_layout_study_says_how_much_cheaper() -> None:
    times = {"reference": 3.0, "channels_last_linear": 4.0, "folded": 2.0, "deployed": 1.5}
    own = [record("layout", ms, shape="8, 4, 6", form=form) for form, ms in times.items()]
    (section,) = sections(own)
    picture, table = section.parts
    assert isinstance(picture, Picture)
    assert "8, 4, 6: deployed: 2.00" in picture.description
    assert isinstance(table, Table)
    assert [row[3].text for row in table.rows] == ["1", "0.75", "1.50", "2.00"]
    assert [row[4].text for row in table.rows] == ["2"] * 4
    (statement,) = statements(own)
    assert statement.answer == "2.00 times cheaper than the reference"


def test_the_mobilevit_study_stands_beside_the_papers_ratios() -> None:
    own = [
        record("mobilevit", ms, attention=k, width=w)
        for k, ms in (("separable", 2.0), ("multi_head", 5.0))
        for w in ("0.5", "1.0")
    ]
    (section,) = sections(own)
    table = next(part for part in section.parts if isinstance(part, Table))
    assert [row[-1].text for row in table.rows] == ["2.50", "2.50"]
    assert any(
        "multi-head, 8 heads 2.91, Linformer, p = 256 3.00" in part.text
        for part in section.parts
        if hasattr(part, "text")
    )


def test_counts_and_times_never_share_a_table() -> None:
    timed = record("layout", 3, shape="8, 4, 6", form="deployed")
    counted = replace(timed, origin="emulated", target="emulated-arm", samples_ns=(), counts=(Counts(4_000_000, 2, 1),))
    (section,) = sections([timed, counted])
    units = [part.columns[2].name for part in section.parts if isinstance(part, Table)]
    assert units == ["ms", "M instructions"]
