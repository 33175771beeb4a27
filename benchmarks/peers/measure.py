"""The files of one subject, read, compared with PyTorch and timed interleaved in one process, one thread."""

import copy
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.peers.convert import Candidate, Subject
from edgeattn.inspection.inspect import Inspection, inspect
from edgeattn.lowering import to_channels_first, to_channels_last
from edgeattn.parity.metrics import Comparison, compare
from edgeattn.profile.latency import interleave
from edgeattn.runtimes import RUNTIMES, Session, missing

RUNTIME_OF = {"onnx": "onnxruntime", "tflite": "litert", "coreml": "coreml"}


@dataclass(frozen=True)
class Row:
    """One candidate, and what is known of its file; ``not_run`` says why there is no comparison and no sample."""

    candidate: Candidate
    inspection: Inspection | None
    size_bytes: int
    comparison: Comparison | None
    samples_ns: tuple[int, ...]
    not_run: str


def measure(subject: Subject, candidates: Sequence[Candidate], *, runs: int) -> list[Row]:
    """One row for each candidate, in their order; the samples of all come from the same rounds."""
    with torch.no_grad():
        oracle = copy.deepcopy(subject.module).double()(subject.x.double()).numpy()
        plain = subject.module(subject.x).numpy()
    reasons = {c: c.error or missing(RUNTIMES.get(RUNTIME_OF[c.format])) or "" for c in candidates}
    calls, comparisons = {}, {}
    with ExitStack() as stack:
        for candidate in (c for c in candidates if not reasons[c]):
            runtime = RUNTIMES.get(RUNTIME_OF[candidate.format])
            session = stack.enter_context(runtime.open(candidate.path))
            inputs = _inputs(session, subject)
            (output,) = session.run(inputs).values()
            if output.shape != oracle.shape:
                output = to_channels_first(torch.from_numpy(output)).numpy()
            comparisons[candidate] = compare(oracle=oracle, reference=plain, candidate=output, precision="fp32")
            calls[candidate] = lambda session=session, inputs=inputs: session.run(inputs)
        names = {str(number): candidate for number, candidate in enumerate(calls)}
        timed = {number: calls[candidate] for number, candidate in names.items()}
        samples = interleave(timed, runs=runs, warmup=max(1, runs // 5))
    taken = {names[number]: tuple(times) for number, times in samples.items()}
    return [
        Row(
            candidate=c,
            inspection=inspect(c.path) if c.path else None,
            size_bytes=_size_bytes(c.path) if c.path else 0,
            comparison=comparisons.get(c),
            samples_ns=taken.get(c, ()),
            not_run=reasons[c],
        )
        for c in candidates
    ]


def _inputs(session: Session, subject: Subject) -> dict[str, Any]:
    """The input under the file's own name and in its own layout: converters to TFLite turn it channels-last."""
    ((name, shape),) = session.signature.inputs.items()
    x = subject.x if shape == tuple(subject.x.shape) else to_channels_last(subject.x).contiguous()
    return {name: x.numpy()}


def _size_bytes(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *path.rglob("*")) if file.is_file())


@dataclass(frozen=True)
class Ratio:
    """How many times as fast the candidate is: the median over the rounds, with its 95 % interval."""

    median: float
    low: float
    high: float


def ratio(*, baseline_ns: Sequence[int], candidate_ns: Sequence[int]) -> Ratio:
    """The ratio round by round. The interval is between order statistics, so it assumes no distribution; but it takes
    the rounds for independent, and a drift of the machine makes it somewhat too narrow."""
    ratios = np.sort(np.asarray(baseline_ns, np.float64) / np.asarray(candidate_ns, np.float64))
    low = max(0, int(len(ratios) / 2 - 1.96 * sqrt(len(ratios)) / 2))
    return Ratio(float(np.median(ratios)), float(ratios[low]), float(ratios[-1 - low]))
