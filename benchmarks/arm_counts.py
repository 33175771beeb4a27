"""Instructions on an emulated ARM core: `make bench-arm` for the table, or `python benchmarks/arm_counts.py FILE...`.

FILE is any .onnx, .tflite or .pte; its inputs are random. `--hot N` says which functions the instructions went to.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeattn.bundle.records import Counts, middle
from edgeattn.bundle.tensors import Arrays
from edgeattn.formats import FORMATS
from edgeattn.inspection.inspect import format_of
from edgeattn.targets import Job
from edgeattn.targets.emulated_arm import EmulatedArm, toolchain


def random_inputs(artifact: Path) -> Arrays:
    """Seeded normal numbers for every input that the file declares; a free axis is 1."""
    format_ = FORMATS.get(format_of(artifact))
    random = np.random.default_rng(0)
    return {
        tensor.name: random.standard_normal([n or 1 for n in tensor.shape]).astype(tensor.dtype)
        for tensor in format_.read(artifact).inputs
    }


def count(artifact: Path, *, cpu: str, runs: int = 3, warmup: int = 2, hot: int = 0) -> Counts:
    """The median of some counted runs; prints the ``hot`` functions with the most instructions."""
    with tempfile.TemporaryDirectory() as scratch, EmulatedArm().connect("", {"cpu": cpu}) as core:
        blocks = Path(scratch) / "blocks.txt" if hot else None
        measurement = core.run(Job(artifact, random_inputs(artifact), warmup, runs), blocks=blocks)
        counts = middle(measurement.counts)
        if blocks:
            print_hot(blocks, counts, runs, hot)
    return counts


def print_hot(blocks: Path, counts: Counts, runs: int, hot: int) -> None:
    from hot_code import functions

    print(f"\n{'instructions':>12} {'share':>6} {'SIMD':>5} {'memory':>6}  function")
    by_cost = functions(blocks)
    for function in by_cost[:hot]:
        total = function.counts.total
        print(
            f"{total // runs:>12,} {total / runs / counts.total:>6.1%} {function.counts.simd / total:>5.0%} "
            f"{function.counts.memory / total:>6.0%}  {function.name}  [{function.library[:24]}]"
        )
    print(f"{sum(f.counts.total for f in by_cost[hot:]) // runs:>12,} in {len(by_cost[hot:])} other functions\n")


def make_forms(folder: Path) -> Iterator[tuple[str, Path]]:
    """The layer and the model, in their reference form and lowered, as files; their titles."""
    import torch

    from edgeattn import formats
    from edgeattn.attention import LinearSelfAttention
    from edgeattn.lowering import lower, to_channels_last
    from edgeattn.sample_models.mobilevitv2 import build

    torch.manual_seed(0)
    model, inputs = build()
    subjects = {
        "attention (512, 1, 256)": (LinearSelfAttention(512).eval(), torch.randn(1, 512, 1, 256)),
        "MobileViTv2-1.0 at 256": (model, inputs["image"]),
    }
    onnx, tflite = FORMATS.get("onnx"), FORMATS.get("tflite")
    for number, (title, (module, x)) in enumerate(subjects.items()):
        first = lower(module, layout="channels_first", inputs=(x,)).module
        last = lower(module, layout="channels_last", inputs=(x,)).with_edges("channels_last")
        for name, format_, form, form_input in (
            ("reference, onnxruntime", onnx, module, x),
            ("lowered, onnxruntime", onnx, first, x),
            ("lowered, LiteRT", tflite, last, to_channels_last(x).contiguous()),
        ):
            path = folder / f"{number}-{name[:3]}{format_.suffix}"
            format_.convert(formats.Job(form, {"x": form_input}, ("y",)), path)
            yield f"{title}, {name}", path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE")
    parser.add_argument("--cpu", default="cortex-a76", choices=toolchain.CPUS)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--hot", type=int, default=0, metavar="N")
    options = parser.parse_args()
    toolchain.build(print)
    print(f"instructions of one run, median of {options.runs}, emulated {options.cpu}, one thread, fp32\n")
    print("| | all | SIMD | memory |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        named = [(str(file), file) for file in options.files]
        for title, file in named or make_forms(Path(folder)):
            counts = count(file, cpu=options.cpu, runs=options.runs, hot=options.hot)
            print(f"| {title} | {counts.total:,} | {counts.simd:,} | {counts.memory:,} |", flush=True)


if __name__ == "__main__":
    main()
