"""The results of a bundle's methods. Each is a frozen dataclass, and shows itself in three ways:

- ``print(result)``, or ``str(result)``: the tables that the command prints, as plain text;
- in a notebook: the same tables in HTML, with all text escaped;
- ``result.rows()``: a list of plain dicts, for ``pandas.DataFrame(result.rows())`` or anything else.

``result.passed`` is the verdict, if the result has one.
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
from edgeattn.runtimes import Share


class Result(ABC):
    """A result that can be printed, shown in a notebook, and read as rows."""

    @abstractmethod
    def shown(self) -> list[Any]:
        """Tables and lines for people, as :mod:`edgeattn.interface.tables` takes them."""

    @abstractmethod
    def rows(self) -> list[dict[str, Any]]:
        """A dict for each row, all with the same keys; values are numbers and texts, or None if unknown."""

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
        return [*render.parity(self.report), *render.verdict(self.report)]

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
        """Whether every run was complete, and its outputs were those of the reference."""
        return self.profile.passed

    @property
    def records(self) -> tuple[Record, ...]:
        return self.profile.records

    @property
    def not_run(self) -> tuple[NotRun, ...]:
        return self.profile.not_run

    @property
    def ratios(self) -> tuple[Ratio, ...]:
        """How many times as fast the artifacts of a runtime are as its first one."""
        return ratios(self.records)

    def shown(self) -> list[Any]:
        return render_records.measured(self.records, self.ratios, self.not_run)

    def rows(self) -> list[dict[str, Any]]:
        return [_measured(record) for record in self.records]


def _measured(record: Record) -> dict[str, Any]:
    """A record as a row. Times are in ms; an emulated core has ``instructions`` and no times."""
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
    """The operators of each file. ``rows()`` has one for each file; ``inspections`` have the operators by kind;
    ``shares`` are what each backend takes of the one file, None if none was asked, and ``broken`` the limits of these
    that are not kept."""

    inspections: tuple[Inspection, ...]
    max_layout_ops: int | None = None
    shares: tuple[Share, ...] | None = None
    broken: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no file has more layout ops than allowed, as saved or as its runtime optimises it."""
        allowed = self.max_layout_ops
        return not self.broken and (allowed is None or all(i.worst_layout_ops <= allowed for i in self.inspections))

    def shown(self) -> list[Any]:
        lines: list[Any] = []
        for inspection in self.inspections:
            lines += render.inspection(inspection)
            if self.max_layout_ops is not None:
                lines.append(f"{inspection.worst_layout_ops} layout ops, {self.max_layout_ops} allowed")
        if self.shares is not None:
            lines += render.shares(self.shares)
        return [*lines, *(f"[red]{escape(sentence)}[/]" for sentence in self.broken)]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "artifact": inspection.artifact,
                "format": inspection.format,
                "operators": sum(inspection.operators.values()),
                "layout_ops": sum(inspection.layout_ops.values()),
                "layout_bytes": inspection.layout_bytes,
                "copy_ops": sum(inspection.copy_ops.values()),
                "copy_bytes": inspection.copy_bytes,
                "worst_layout_ops": inspection.worst_layout_ops,
                "macs": inspection.macs,
                "parameters": inspection.parameters,
            }
            for inspection in self.inspections
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
    """The row with the entries of its dict ``inner`` in place of that dict."""
    return {**{key: value for key, value in row.items() if key != inner}, **row[inner]}
