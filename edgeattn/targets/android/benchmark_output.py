"""What a vendor's benchmark tool is here, and what is read from its output."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from edgeattn.bundle.records import Operator
from edgeattn.formats.graph import Op
from edgeattn.targets import Job


@dataclass(frozen=True)
class Seen:
    """What a tool tells; what it does not is None or empty. ``error`` is the line in which it says what is wrong."""

    samples_ns: tuple[int, ...] = ()
    clock_step_ns: int | None = None
    load_ns: int | None = None
    first_run_ns: int | None = None
    peak_memory_bytes: int | None = None
    operators: tuple[Operator, ...] = ()
    operators_note: str = ""
    error: str = ""


class BenchmarkTool(Protocol):
    """A kind of tool: its ``name`` stands in that of the file, ``format`` is that of the artifacts that it runs, and
    ``grows`` are the files that it writes as it goes."""

    name: str
    format: str
    grows: tuple[str, ...]

    def starts(self, job: Job, *, interleaved: bool) -> int:
        """How often it is started for a job, alone or in turn with others."""

    def once(self, job: Job, warmup: int, tool: str, artifact: str, *, starts: int) -> str:
        """Shell for one of ``starts`` starts, in the job's folder; ``tool`` are the words that start it."""

    def after(self, job: Job, tool: str, artifact: str) -> str:
        """Shell for a start after all others, for what would disturb the times; ``:`` if there is nothing."""

    def parse(self, folder: Path, job: Job, warmup: int) -> Seen:
        """Read what it left in ``folder``.

        Raises:
            ValueError: it cannot be read.
        """


def text(path: Path) -> str:
    """A file that may not be there, or may be cut off."""
    return path.read_text(errors="replace") if path.is_file() else ""


def number(pattern: str, output: str) -> float | None:
    """The first number that ``pattern`` is followed by."""
    match = re.search(re.escape(pattern) + r"\s*([0-9.eE+-]+)", output)
    try:
        return float(match[1]) if match else None
    except ValueError:
        return None


def error(output: str) -> str:
    """The first line that tells of an error, or the last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return next(_telling(lines), lines[-1] if lines else "")


def operator(name: str, kind: str, median_ns: float) -> Operator:
    # XNNPACK's kinds are a word and more: "Transpose (ND, X32)".
    return Operator(name, kind, "", round(median_ns), Op(kind.split(" ")[0], name).category == "layout")


def _telling(lines: list[str]) -> Iterator[str]:
    return (line for line in lines if re.search(r"error|fail|cannot|unknown", line, re.IGNORECASE))
