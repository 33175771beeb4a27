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
from edgeattn.runtimes import Backend, Session, backends

# What runs a file here for its outputs alone: no phone computes by these.
NOT_TIMED = ("mil_reference", "coreai, interpreter")


@dataclass(frozen=True)
class Row:
    """One candidate, and what is known of its file in the backend ``runtime``; ``not_run`` says why there is no
    comparison or no sample."""

    candidate: Candidate
    runtime: str
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
    chosen = {c: _backend(c.format) for c in candidates}
    reasons = {c: c.error or chosen[c].missing for c in candidates}
    calls, comparisons = {}, {}
    with ExitStack() as stack:
        for candidate in (c for c in candidates if not reasons[c]):
            session = stack.enter_context(chosen[candidate].open(candidate.path))
            inputs = _inputs(session, subject)
            (output,) = session.run(inputs).values()
            if output.shape != oracle.shape:
                output = to_channels_first(torch.from_numpy(output)).numpy()
            comparisons[candidate] = compare(oracle=oracle, reference=plain, candidate=output, precision="fp32")
            if chosen[candidate].label in NOT_TIMED:
                reasons[candidate] = f"not timed: {chosen[candidate].label} has none of a device's kernels"
            else:
                calls[candidate] = lambda session=session, inputs=inputs: session.run(inputs)
        names = {str(number): candidate for number, candidate in enumerate(calls)}
        timed = {number: calls[candidate] for number, candidate in names.items()}
        samples = interleave(timed, runs=runs, warmup=max(1, runs // 5))
    taken = {names[number]: tuple(times) for number, times in samples.items()}
    return [
        Row(
            candidate=c,
            runtime=chosen[c].label,
            inspection=inspect(c.path) if c.path else None,
            size_bytes=_size_bytes(c.path) if c.path else 0,
            comparison=comparisons.get(c),
            samples_ns=taken.get(c, ()),
            not_run=reasons[c],
        )
        for c in candidates
    ]


def _backend(format_name: str) -> Backend:
    """The first that there is on this machine, in its ordinary arithmetic."""
    found = backends(format_name)
    return next((backend for backend in found if not backend.missing), found[0])


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
