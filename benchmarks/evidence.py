"""Which figures of README and docs are older than the code that they measure: `python benchmarks/evidence.py`.

A line with a date is evidence of that day. It is old if git has a later change of the code that the page measures;
then its command, which stands beside it, is to be run again. Exit code 1 if one is old.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parent.parent
_FORM = ("edgeattn/lowering", "edgeattn/formats")
# What the figures of a page depend on, beside the page's own command.
MEASURES: dict[str, tuple[str, ...]] = {
    "README.md": (*_FORM, "sample_models/mobilevitv2.py", "edgeattn/attention.py", "benchmarks/arm_counts.py"),
    "docs/arm.md": (*_FORM, "benchmarks/arm_counts.py", "edgeattn/targets/emulated_arm"),
    "docs/comparison.md": (*_FORM, "benchmarks/peers"),
    "docs/coreai.md": ("edgeattn/formats/coreai.py", "edgeattn/formats/aimodel", "export/quantize/coreai.py"),
    "docs/executorch.md": ("edgeattn/formats/executorch.py", "edgeattn/lowering", "export/quantize/executorch.py"),
    "docs/gpu.md": (*_FORM, "edgeattn/runtimes/litert_gpu.py", "edgeattn/phone/page"),
    "docs/lowering.md": _FORM,
    "docs/parity.md": ("edgeattn/parity", "export/rounding.py"),
    "docs/pictures.md": (*_FORM, "export/source/picture.py", "export/quantize"),
    "docs/precisions.md": (*_FORM, "export/quantize", "export/keeping.py"),
    "docs/reliability.md": ("edgeattn", "export", "benchmarks/fuzz", "benchmarks/family"),
    "docs/studies.md": (*_FORM, "edgeattn/profile/studies"),
}
_DATE = re.compile(r"\b(20\d\d-[01]\d-[0-3]\d)\b(?: and (\d\d)\b)?")


@dataclass(frozen=True)
class Evidence:
    """A line of a page that says when its figures were measured, and the last change of what they measure."""

    page: str
    line: int
    measured: date
    changed: date
    change: str

    @property
    def is_old(self) -> bool:
        """Whether the code is younger; of one day nobody knows."""
        return self.changed > self.measured


def dates(text: str) -> Iterator[tuple[int, date]]:
    """Line numbers and dates; of "2026-11-24 and 25" the later one."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in _DATE.finditer(line):
            day = date.fromisoformat(match[1])
            yield number, day.replace(day=int(match[2])) if match[2] else day


def evidence(root: Path = ROOT) -> list[Evidence]:
    """All evidence of the pages, in their order."""
    found = []
    for page, paths in MEASURES.items():
        changed, change = _last_change(root, paths)
        text = (root / page).read_text(encoding="utf-8")
        found += [Evidence(page, line, measured, changed, change) for line, measured in dates(text)]
    return found


def _last_change(root: Path, paths: tuple[str, ...]) -> tuple[date, str]:
    command = ["git", "log", "-1", "--format=%cs %h %s", "--", *paths]
    day, _, change = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout.partition(" ")
    return date.fromisoformat(day), change.strip()


def main() -> int:
    """Print all of it, and say which is old."""
    found = evidence()
    for each in found:
        word = "OLD" if each.is_old else "ok "
        print(f"{word} {each.page}:{each.line} measured {each.measured}, changed {each.changed} by {each.change[:60]}")
    old = sum(each.is_old for each in found)
    print(f"{old} of {len(found)} are older than what they measure")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
