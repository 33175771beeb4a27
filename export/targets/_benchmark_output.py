"""What is read from the output of a benchmark tool, and how."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edgeattn.cost import Op
from edgeattn.records import Operator


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
