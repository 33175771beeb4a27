"""What each precision costs and brings: `python benchmarks/precisions.py BUNDLE [--arm]` prints the table of a bundle.

Size; top-1 with its 95 % interval, or mean IoU, and agreement with the reference at export; signal to noise on the
worst case that counts; time here as a ratio to fp32, the artifacts of a format in turn, the smallest of all runs. With
`--arm`, instructions on an emulated cortex-a76 and the signal to noise there, of the files that such a core runs.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays
from edgeattn.parity.accuracy import Accuracy, wilson
from edgeattn.parity.metrics import difference
from edgeattn.parity.verdicts import stored
from edgeattn.runtimes import backends
from edgeattn.targets import Job
from edgeattn.targets.emulated_arm import EmulatedArm

RUNS = 30
# What runs here for its outputs alone: no device computes by these.
NOT_TIMED = ("coreml", "coreai")
# What the emulated core runs, and in which runtime.
ON_ARM = {"tflite": "litert", "onnx": "onnxruntime", "executorch": "executorch"}


def sqnr_db(artifact: Artifact, golden: GoldenCase, outputs: Arrays) -> float:
    """The lowest over all outputs, against the lowered form in float64."""
    return min(
        difference(
            reference=golden.oracle_for(artifact)[output.name],
            candidate=outputs[output.name],
        ).sqnr_db
        for output in artifact.outputs
    )


def counting(artifact: Artifact, cases: dict[str, GoldenCase]) -> dict[str, GoldenCase]:
    """The cases by which parity judges this artifact."""
    return {
        name: golden
        for name, golden in cases.items()
        if name not in artifact.beyond and (artifact.judged_on is None or name in artifact.judged_on)
    }


def measured(bundle: Bundle, artifacts: list[Artifact], cases: dict[str, GoldenCase]) -> dict[str, tuple[float, ...]]:
    """(lowest SQNR, smallest time in ms) by path; runs are interleaved."""
    numbers_by_path: dict[str, list[float]] = {}
    sessions = []
    for artifact in artifacts:
        backend = next(backend for backend in backends(artifact.format) if not backend.missing)
        session = backend.open(bundle.path(artifact.file))
        opened = session.__enter__()
        sessions.append((artifact, session, opened))
        sqnr_by_case = {
            n: sqnr_db(artifact, g, opened.run(g.inputs_for(artifact))) for n, g in counting(artifact, cases).items()
        }
        numbers_by_path[artifact.file.path] = [min(sqnr_by_case.values()), float("inf")]
    for _ in range(RUNS if artifacts[0].format not in NOT_TIMED else 0):
        for artifact, _session, opened in sessions:
            inputs = cases["example"].inputs_for(artifact)
            start = time.perf_counter_ns()
            opened.run(inputs)
            numbers = numbers_by_path[artifact.file.path]
            numbers[1] = min(numbers[1], (time.perf_counter_ns() - start) / 1e6)
    for _, session, _ in sessions:
        session.__exit__(None, None, None)
    return {path: tuple(numbers) for path, numbers in numbers_by_path.items()}


def on_arm(bundle: Bundle, artifact: Artifact, cases: dict[str, GoldenCase]) -> tuple[int, float]:
    """Instructions of one run on an emulated cortex-a76, and the SQNR there."""
    golden, runtime = cases["example"], ON_ARM[artifact.format]
    job = Job(bundle.path(artifact.file), golden.inputs_for(artifact), warmup=1, runs=1, runtime=runtime)
    with EmulatedArm().connect("", {"cpu": "cortex-a76"}) as core:
        measurement = core.run(job)
    return measurement.counts[0].total, sqnr_db(artifact, golden, measurement.last)


def accuracy(row: Accuracy | None) -> str:
    """Three cells."""
    if row is None:
        return "- | - | -"
    agreeing = f"{row.agreeing / row.n:.2%}"
    if row.miou is not None:
        return f"mIoU {row.miou:.2%} | - | {agreeing}"
    low, high = wilson(row.correct, row.n)
    return f"{row.correct / row.n:.2%} of {row.n:,} | {low:.2%} to {high:.2%} | {agreeing}"


HEAD = ("artifact", "KiB", "of fp32", "top-1", "95 % interval", "agreeing", "lowest dB", "speed", "ARM instructions",
        "of fp32", "ARM dB")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--arm", action="store_true")
    options = parser.parse_args()
    bundle = bundles.load(options.bundle)
    cases = golden_cases(bundle)
    rows = {row.candidate: row for row in stored(bundle)[0].accuracy}
    print(f"| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    for format_ in dict.fromkeys(artifact.format for artifact in bundle.manifest.artifacts):
        artifacts = [artifact for artifact in bundle.manifest.artifacts if artifact.format == format_]
        numbers = measured(bundle, artifacts, cases)
        first = artifacts[0].file
        first_total = 0
        for artifact in artifacts:
            path, size = artifact.file.path, artifact.file.size_bytes
            lowest, ms = numbers[path]
            speed = f"{numbers[first.path][1] / ms:.2f}" if np.isfinite(ms) else "-"
            arm = "- | - | -"
            if options.arm and format_ in ON_ARM:
                total, db = on_arm(bundle, artifact, cases)
                first_total = first_total or total
                arm = f"{total / 1e6:.1f} M | {total / first_total:.2f} | {db:.1f}"
            cells = (path, f"{size / 1024:,.0f}", f"{size / first.size_bytes:.2f}", accuracy(rows.get(path)))
            print(f"| {' | '.join(cells)} | {lowest:.1f} | {speed} | {arm} |", flush=True)


if __name__ == "__main__":
    main()
