"""What each precision costs and brings: `python benchmarks/precisions.py BUNDLE [--arm]` prints the table of a bundle.

Size; signal to noise on the case `photograph` and on the worst case that counts; time here, the artifacts of a format
in turn, the smallest of all runs; partitions of XNNPACK. With `--arm`, instructions on an emulated cortex-a76 and the
signal to noise there, of the .tflite files.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.golden import GoldenCase, golden_cases
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays
from edgeattn.parity.metrics import difference
from edgeattn.runtimes import backends, litert
from edgeattn.targets import Job
from edgeattn.targets.emulated_arm import EmulatedArm

RUNS = 30


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
    """(SQNR on the photograph, lowest SQNR, smallest time in ms) by path; runs are interleaved."""
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
        numbers_by_path[artifact.file.path] = [
            sqnr_by_case.get("photograph", float("nan")),
            min(sqnr_by_case.values()),
            float("inf"),
        ]
    for _ in range(RUNS if artifacts[0].format != "coreml" else 0):
        for artifact, _session, opened in sessions:
            inputs = cases["example"].inputs_for(artifact)
            start = time.perf_counter_ns()
            opened.run(inputs)
            numbers = numbers_by_path[artifact.file.path]
            numbers[2] = min(numbers[2], (time.perf_counter_ns() - start) / 1e6)
    for _, session, _ in sessions:
        session.__exit__(None, None, None)
    return {path: tuple(numbers) for path, numbers in numbers_by_path.items()}


def on_arm(bundle: Bundle, artifact: Artifact, cases: dict[str, GoldenCase]) -> tuple[int, float]:
    """Instructions of one run on an emulated cortex-a76, and the SQNR there."""
    golden = cases.get("photograph", cases["example"])
    job = Job(bundle.path(artifact.file), golden.inputs_for(artifact), warmup=1, runs=1)
    with EmulatedArm().connect("", {"cpu": "cortex-a76"}) as core:
        measurement = core.run(job)
    return measurement.counts[0].total, sqnr_db(artifact, golden, measurement.last)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--arm", action="store_true")
    options = parser.parse_args()
    bundle = bundles.load(options.bundle)
    cases = golden_cases(bundle)
    print("| artifact | KiB | photograph dB | lowest dB | ms | speed | partitions | ARM instructions | ARM dB |")
    print("|---|---|---|---|---|---|---|---|---|")
    for format_ in dict.fromkeys(artifact.format for artifact in bundle.manifest.artifacts):
        artifacts = [artifact for artifact in bundle.manifest.artifacts if artifact.format == format_]
        numbers = measured(bundle, artifacts, cases)
        first_ms = numbers[artifacts[0].file.path][2]
        for artifact in artifacts:
            photograph, lowest, ms = numbers[artifact.file.path]
            timed = f"{ms:.2f} | {first_ms / ms:.2f}" if np.isfinite(ms) else "- | -"
            kib = artifact.file.size_bytes / 1024
            row = f"| {artifact.file.path} | {kib:,.0f} | {photograph:.1f} | {lowest:.1f} | {timed}"
            if format_ == "tflite":
                row += f" | {litert.partitions(bundle.path(artifact.file))}"
                if options.arm:
                    total, db = on_arm(bundle, artifact, cases)
                    row += f" | {total:,} | {db:.1f}"
            print(row + " |", flush=True)


if __name__ == "__main__":
    main()
