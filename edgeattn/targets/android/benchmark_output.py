"""The protocol of a vendor's benchmark tool, and helpers that read its output."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeattn.bundle.records import Operator
from edgeattn.formats.graph import Op
from edgeattn.system import files
from edgeattn.system.foreign import sentence
from edgeattn.targets import Job
from edgeattn.targets._runner.schema import MOST_NS

# Of a file of a tool's: a start writes some kilobytes. Of a time in us or s, or a size in MB.
MOST_BYTES, MOST_NUMBER = 2**24, 1e13


@dataclass(frozen=True)
class ToolOutput:
    """The values in a tool's output; those that it lacks are None or empty. ``error`` is its line with the error."""

    samples_ns: tuple[int, ...] = ()
    clock_step_ns: int | None = None
    load_ns: int | None = None
    first_run_ns: int | None = None
    peak_memory_bytes: int | None = None
    operators: tuple[Operator, ...] = ()
    operators_note: str = ""
    error: str = ""


class BenchmarkTool(Protocol):
    """A kind of tool: its ``name`` is part of the file's name, ``format`` is the format of the artifacts that it runs,
    and ``live_files`` are the files that it writes as it runs."""

    name: str
    format: str
    live_files: tuple[str, ...]

    def starts(self, job: Job, *, interleaved: bool) -> int:
        """The number of starts for a job, alone or interleaved with others."""

    def once(self, job: Job, warmup: int, tool: str, artifact: str, *, starts: int) -> str:
        """Shell for one of ``starts`` starts, in the job's folder; ``tool`` is the command that starts it."""

    def after(self, job: Job, tool: str, artifact: str) -> str:
        """Shell for a last start, for values whose collection would disturb the times; ``:`` if there are none."""

    def parse(self, folder: Path, job: Job, warmup: int) -> ToolOutput:
        """Read its output files in ``folder``.

        Raises:
            ValueError: it cannot be read.
        """


def text(path: Path) -> str:
    """The text of a file that may be missing or cut off.

    Raises:
        ArtifactError: it is longer than a tool's output can be.
    """
    return files.read(path, MOST_BYTES).decode(errors="replace") if path.is_file() else ""


def number(pattern: str, output: str) -> float | None:
    """The number after the first ``pattern``, if it can be a time or a size."""
    match = re.search(re.escape(pattern) + r"\s*([0-9.eE+-]{1,40})", output)
    try:
        value = float(match[1]) if match else -1.0
    except ValueError:
        return None
    return value if 0 <= value <= MOST_NUMBER else None


def error(output: str) -> str:
    """The first line with an error, or the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return sentence(next(_error_lines(lines), lines[-1] if lines else ""))


def operator(name: str, kind: str, median_ns: float) -> Operator:
    # XNNPACK's kinds have further words: "Transpose (ND, X32)".
    """Raises ValueError if its time cannot be."""
    if not 0 <= median_ns <= MOST_NS:
        raise ValueError(f"an operator takes {median_ns} ns")
    name, kind = sentence(name), sentence(kind)
    return Operator(name, kind, "", round(median_ns), Op(kind.split(" ")[0], name).category == "layout")


def _error_lines(lines: list[str]) -> Iterator[str]:
    return (line for line in lines if re.search(r"error|fail|cannot|unknown", line, re.IGNORECASE))
