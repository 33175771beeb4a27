"""All ways of writing the attention, lowered: `make bench-spellings`; `--number 50` for fewer.

So many spellings of the layer, and so many near misses (tests/spellings.py), each lowered for both layouts: the outputs
in float64 are the same, and an equivalent spelling moves no data. A sample of both is exported for real, with parity,
and without the lowering too. Exits with 1 on a difference, on what is left to move in an equivalent spelling, and on an
export that only works without the lowering.
"""

import logging
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from edgeattn.errors import EdgeAttnError
from edgeattn.formats import FORMATS, Job
from edgeattn.interface.deploy import deploy
from edgeattn.layout import Layout
from edgeattn.runtimes import RUNTIMES

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import spellings
from spelling_checks import lowered_error, moving_ops
from spellings import Spelling

LAYOUTS: tuple[Layout, ...] = ("channels_first", "channels_last")
EXPORTED = {"onnx": "onnxruntime", "tflite": "litert"}
KINDS = {"equivalent": False, "near miss": True}
SAME, DIFFERENT, MOVES, FAILS, NEITHER = "same", "DIFFERENT", "moves data", "fails lowered", "fails either way"
# A near miss may keep what it has, and a converter may refuse a module however it is exported.
FATAL = {"equivalent": {DIFFERENT, MOVES, FAILS}, "near miss": {DIFFERENT, FAILS}}


@dataclass(frozen=True)
class Verdict:
    """How one spelling came through one check, and the details if it did not."""

    kind: str
    check: str
    result: str
    detail: str
    changed: bool = True


def in_graph(kind: str, number: int, layout: Layout) -> Verdict:
    """Lower one spelling, in float64, and look at its outputs and its graph."""
    module, inputs = _built(kind, number)
    module, inputs = module.double(), tuple(x.double() for x in inputs)
    try:
        lowering, error = lowered_error(module, inputs, layout)
        moved = moving_ops(lowering, inputs, layout)
    except Exception as failure:  # noqa: BLE001 - whatever the lowering raises is what this benchmark looks for
        return Verdict(kind, layout, FAILS, f"{type(failure).__name__}: {str(failure).splitlines()[0]}")
    changed = bool(lowering.changes)
    if not error <= _spelling(kind, number).tolerance:
        return Verdict(kind, layout, DIFFERENT, f"relative error {error:.1e}", changed)
    return Verdict(kind, layout, MOVES if moved else SAME, ", ".join(moved), changed)


def exported(kind: str, number: int, format_name: str) -> Verdict:
    """Export one spelling as `edgeattn export` does; if that fails, as it is."""
    module, inputs = _built(kind, number)
    with tempfile.TemporaryDirectory() as folder:
        try:
            bundle = deploy(module, inputs, out=Path(folder) / "bundle", name="spelled", formats=format_name)
        except Exception as failure:  # noqa: BLE001 - as above
            reason = str(failure).splitlines()[0] if isinstance(failure, EdgeAttnError) else repr(failure)
            alone = _works_as_it_is(kind, number, format_name, Path(folder))
            return Verdict(kind, format_name, FAILS if alone else NEITHER, reason)
        if not bundle.passed:
            worst = next(row for row in bundle.parity_at_export.rows() if not row["passed"])
            return Verdict(kind, format_name, DIFFERENT, str(worst["reason"]))
        (inspection,) = bundle.inspect().inspections
        ops = inspection.layout_ops
    return Verdict(kind, format_name, MOVES if ops else SAME, ", ".join(f"{n} {name}" for name, n in ops.items()))


def _works_as_it_is(kind: str, number: int, format_name: str, folder: Path) -> bool:
    """Whether the plain module is converted, and its file runs."""
    module, inputs = _built(kind, number)
    format_ = FORMATS.get(format_name)
    path = folder / f"as-it-is{format_.suffix}"
    named = {f"x{n}": x for n, x in enumerate(inputs)}
    try:
        format_.convert(Job(module, named, ("y",)), path)
        with RUNTIMES.get(EXPORTED[format_name]).open(path) as session:
            session.run({name: x.numpy() for name, x in named.items()})
    except Exception:  # noqa: BLE001 - as above
        return False
    return True


def _spelling(kind: str, number: int) -> Spelling:
    return spellings.drawn(number, near_miss=KINDS[kind])


def _built(kind: str, number: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    return spellings.build(_spelling(kind, number), seed=number)


def table(verdicts: Sequence[Verdict]) -> str:
    """A row for each kind and check."""
    results = (SAME, MOVES, DIFFERENT, FAILS, NEITHER)
    lines = [f"| spellings | check | number | changed | {' | '.join(results)} |", "|---" * (4 + len(results)) + "|"]
    for kind, check in dict.fromkeys((v.kind, v.check) for v in verdicts):
        rows = [v for v in verdicts if (v.kind, v.check) == (kind, check)]
        counts = Counter(v.result for v in rows)
        changed = "-" if check in EXPORTED else sum(v.changed for v in rows)
        lines.append(
            f"| {kind} | {check} | {len(rows)} | {changed} | {' | '.join(str(counts[one]) for one in results)} |"
        )
    return "\n".join(lines)


def main(
    number: Annotated[int, typer.Option(min=1, help="Spellings of each kind.")] = 500,
    exports: Annotated[int, typer.Option(min=0, help="How many of each kind are exported for real.")] = 20,
    first: Annotated[int, typer.Option(min=0, help="The number of the first spelling.")] = 0,
) -> None:
    """Lower spellings of the attention, compare, count, and print Markdown; what is wrong goes to stderr at once."""
    torch.set_num_threads(1)
    torch._logging.set_logs(dynamo=logging.CRITICAL)
    numbers = range(first, first + number)
    sample = set(random.Random(0).sample(numbers, min(exports, number)))
    verdicts, fatal = [], 0
    for kind in KINDS:
        for each in numbers:
            found = [in_graph(kind, each, layout) for layout in LAYOUTS]
            if each in sample:
                found += [exported(kind, each, format_name) for format_name in EXPORTED]
            verdicts += found
            for one in found:
                if one.result in FATAL[kind]:
                    fatal += 1
                    said = f"{one.result}: {one.check}, {kind} {each} ({_spelling(kind, each)}): {one.detail}"
                    print(said, file=sys.stderr)
            if (each + 1) % 25 == 0:
                print(f"{kind}: {each + 1 - first} of {number}", file=sys.stderr, flush=True)
    print(table(verdicts))
    if fatal:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
