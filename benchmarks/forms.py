"""The reference form against the lowered form of the layer, in every format and in every runtime that takes both."""

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch

from edgeattn.attention import LinearSelfAttention
from edgeattn.errors import ConversionError
from edgeattn.formats import FORMATS, Job
from edgeattn.inspection import inspect as inspection
from edgeattn.lowering import in_layout, lower
from edgeattn.profile.latency import interleave, ratio_of_pairs
from edgeattn.runtimes import RUNTIMES, missing

RUNTIME_OF = {"onnx": "onnxruntime", "tflite": "litert", "coreml": "coreml", "executorch": "executorch"}


@dataclass(frozen=True)
class Measured:
    """One format: layout and copy ops of both forms, and the speed of the lowered one as a multiple of the other's."""

    format: str
    lowered: inspection.Inspection
    reference: inspection.Inspection | None
    refusal: str
    speed_ratio: float | None
    why_no_ratio: str


def measure(layer: LinearSelfAttention, x: torch.Tensor, format_name: str, *, runs: int) -> Measured:
    """Convert both forms of ``layer`` for ``x`` [B, C, P, N], read them back, and time them interleaved, one thread."""
    format_ = FORMATS.get(format_name)
    lowering = lower(layer, layout=format_.layout, inputs=(x,))
    lowered_input = in_layout(x, format_.layout)
    with tempfile.TemporaryDirectory() as folder:
        lowered = Path(folder) / f"lowered{format_.suffix}"
        format_.convert(Job(lowering.with_edges(format_.layout), {"x": lowered_input}, ("y",)), lowered)
        reference, refusal = Path(folder) / f"reference{format_.suffix}", ""
        try:
            format_.convert(Job(layer, {"x": x}, ("y",)), reference)
        except ConversionError as error:
            refusal = str(error)
        speed, why = None, refusal
        timed = RUNTIME_OF.get(format_name)
        if not refusal:
            why = (missing(RUNTIMES.get(timed)) or "") if timed else "its runtime here is an interpreter"
        if timed and not why:
            runtime = RUNTIMES.get(timed)
            with ExitStack() as stack:
                old, new = (stack.enter_context(runtime.open(path)) for path in (reference, lowered))
                calls = {
                    "reference": lambda: old.run({"x": x.numpy()}),
                    "lowered": lambda: new.run({"x": lowered_input.numpy()}),
                }
                samples = interleave(calls, runs=runs, warmup=runs // 5)
            speed = ratio_of_pairs(baseline_ns=samples["reference"], candidate_ns=samples["lowered"]).value
        return Measured(
            format_name,
            inspection.inspect(lowered),
            None if refusal else inspection.inspect(reference),
            refusal,
            speed,
            why,
        )


def ops(inspected: inspection.Inspection | None) -> str:
    """``operators / layout ops / copy ops`` of one file."""
    if inspected is None:
        return "does not convert"
    counts = (inspected.operators, inspected.layout_ops, inspected.copy_ops)
    return " / ".join(str(sum(c.values())) for c in counts)


def print_table(rows: list[Measured], titles: list[str]) -> None:
    """A Markdown table, one row for each measurement."""
    print("| what | format | reference: ops / layout / copy | lowered | in the runtime | lowered is faster by |")
    print("|---|---|---|---|---|---|")
    for title, row in zip(titles, rows, strict=True):
        view = row.lowered.runtime
        layout = f"{sum(view['layout_ops'].values())} layout ops" if "layout_ops" in view else ""
        partitions = f"{view['xnnpack_partitions']} partition" if "xnnpack_partitions" in view else ""
        speed = f"{row.speed_ratio:.2f} x" if row.speed_ratio else "-"
        cells = (title, row.format, ops(row.reference), ops(row.lowered), layout or partitions or "-", speed)
        print(f"| {' | '.join(cells)} |")
    for reason in dict.fromkeys(f"{row.format}: {row.why_no_ratio}" for row in rows if row.why_no_ratio):
        print(f"\nNo ratio for {reason}")
