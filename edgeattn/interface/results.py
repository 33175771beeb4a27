"""What a bundle answers. Each result is one frozen dataclass around what was found, and shows itself in three ways:

- ``print(result)``, or ``str(result)``: the tables that the command prints, as plain text;
- in a notebook: the same tables in HTML, with all text escaped;
- ``result.rows()``: a list of plain dicts, for ``pandas.DataFrame(result.rows())`` or anything else.

``result.passed`` is the verdict, where there is one.
"""

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.markup import escape

from edgeattn.bundle.records import NotRun, Record, middle
from edgeattn.inspection.inspect import Inspection
from edgeattn.interface import render, render_records, tables
from edgeattn.parity.layers import Layers
from edgeattn.parity.selftest import SelfTest
from edgeattn.parity.verdicts import Report
from edgeattn.profile.comparison import Ratio, ratios
from edgeattn.profile.latency import summary
from edgeattn.profile.run import Profile
from edgeattn.report.document import Document


class Result(ABC):
    """What can be printed, shown in a notebook, and taken apart."""

    @abstractmethod
    def shown(self) -> list[Any]:
        """Tables and lines for people, as :mod:`edgeattn.interface.tables` takes them."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """One dict a row, each with the same keys, of numbers and texts; None is what there is not."""

    def __str__(self) -> str:
        return tables.plain(self.shown())

    __repr__ = __str__

    def _repr_html_(self) -> str:
        return tables.html(self.shown())


@dataclass(frozen=True, repr=False)
class ParityResult(Result):
    """Whether every artifact is still the same model. ``rows()`` has one for each output of each case."""

    report: Report

    @property
    def passed(self) -> bool:
        return self.report.passed

    def shown(self) -> list[Any]:
        return render.parity(self.report)

    def rows(self) -> list[dict[str, Any]]:
        return [asdict(row) for row in self.report.rows]


@dataclass(frozen=True, repr=False)
class LayersResult(Result):
    """Where an error begins. ``rows()`` has one for each layer of each artifact and runtime, in order of execution."""

    layers: Layers

    @property
    def passed(self) -> bool:
        return self.layers.passed

    def shown(self) -> list[Any]:
        return render.layers(self.layers)

    def rows(self) -> list[dict[str, Any]]:
        depths = self.layers.depths
        return [{"candidate": d.candidate, "runtime": d.runtime, **asdict(row)} for d in depths for row in d.rows]


@dataclass(frozen=True, repr=False)
class SelfTestResult(Result):
    """Whether parity notices damaged artifacts. ``rows()`` has one for each damaged copy in each runtime."""

    self_test: SelfTest

    @property
    def passed(self) -> bool:
        return self.self_test.passed

    def shown(self) -> list[Any]:
        return render.self_test(self.self_test)

    def rows(self) -> list[dict[str, Any]]:
        return [_flat(asdict(trial), "judgement") for trial in self.self_test.trials]


@dataclass(frozen=True, repr=False)
class ProfileResult(Result):
    """How fast every artifact is. ``rows()`` has one for each artifact, runtime and number of threads, with the
    statistics; the raw samples are in ``records``."""

    profile: Profile

    @property
    def passed(self) -> bool:
        """Whether all was measured to the end, and all gave the outputs of the reference."""
        return self.profile.passed

    @property
    def records(self) -> tuple[Record, ...]:
        return self.profile.records

    @property
    def not_run(self) -> tuple[NotRun, ...]:
        return self.profile.not_run

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """How many times as fast as the first of their runtime the others are."""
        return ratios(self.records)

    def shown(self) -> list[Any]:
        return render_records.measured(self.records, self.ratios, self.not_run)

    def rows(self) -> list[dict[str, Any]]:
        return [_measured(record) for record in self.records]


def _measured(record: Record) -> dict[str, Any]:
    """Times in ms; ``instructions`` are counted where a core is emulated, and then there are no times."""
    ns: dict[str, float | None] = dict.fromkeys(("p50", "p50_low", "p50_high", "p90", "p99"))
    if record.samples_ns:
        s = summary(record.samples_ns)
        low, high = s.p50_interval_ns
        ns = {"p50": s.p50_ns, "p50_low": low, "p50_high": high, "p90": s.p90_ns, "p99": s.p99_ns}
    ns |= {"load": record.load_ns, "first_run": record.first_run_ns}
    subject = record.subject
    return {
        "artifact": subject.artifact,
        "format": subject.format,
        "precision": subject.precision,
        "size_bytes": subject.size_bytes,
        "layout_ops": subject.layout_ops,
        "target": record.target,
        "origin": record.origin,
        "device": record.device.name,
        "runtime": record.runtime,
        "runtime_version": record.runtime_version,
        "threads": record.threads,
        "runs": len(record.samples_ns) or len(record.counts),
        "warmup": record.warmup,
        **{f"{name}_ms": None if value is None else value / 1e6 for name, value in ns.items()},
        "instructions": middle(record.counts).total if record.counts else None,
        "peak_memory_bytes": record.peak_memory_bytes,
        "passed": record.parity and record.parity.passed,
        "untrusted": "; ".join(record.untrusted),
    }


@dataclass(frozen=True, repr=False)
class InspectionResult(Result):
    """What each file is made of. ``rows()`` has one for each file; ``inspections`` have the operators by kind."""

    inspections: tuple[Inspection, ...]
    max_layout_ops: int | None = None

    @property
    def passed(self) -> bool:
        """Whether no file has more layout ops than are allowed, as saved or as its runtime optimises it."""
        return self.max_layout_ops is None or all(i.worst_layout_ops <= self.max_layout_ops for i in self.inspections)

    def shown(self) -> list[Any]:
        lines: list[Any] = []
        for found in self.inspections:
            lines += render.inspection(found)
            if self.max_layout_ops is not None:
                lines.append(f"{found.worst_layout_ops} layout ops, {self.max_layout_ops} allowed")
        return lines

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "artifact": found.artifact,
                "format": found.format,
                "operators": sum(found.operators.values()),
                "layout_ops": sum(found.layout_ops.values()),
                "layout_bytes": found.layout_bytes,
                "copy_ops": sum(found.copy_ops.values()),
                "copy_bytes": found.copy_bytes,
                "worst_layout_ops": found.worst_layout_ops,
                "macs": found.macs,
                "parameters": found.parameters,
            }
            for found in self.inspections
        ]


@dataclass(frozen=True, repr=False)
class ReportResult(Result):
    """A report that was written to ``path``. ``rows()`` has one for each statement of its verdict."""

    path: Path
    document: Document

    def shown(self) -> list[Any]:
        lines = [f"{s.question} {s.answer}. {s.detail}" for s in self.document.verdict]
        return [escape(line) for line in (*lines, f"The report is {self.path}")]

    def rows(self) -> list[dict[str, Any]]:
        return [{"question": s.question, "answer": s.answer, "detail": s.detail} for s in self.document.verdict]


def _flat(row: dict[str, Any], inner: str) -> dict[str, Any]:
    """Without the dict that stands in it under ``inner``: its own entries instead."""
    return {**{key: value for key, value in row.items() if key != inner}, **row[inner]}
