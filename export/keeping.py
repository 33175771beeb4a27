"""Which operators stay in float, so that int8 loses no more than it may, at the least cost: ``--auto-keep``.

Each operator is tried alone in eight bits, by the format's own quantiser, in its own runtime. The noise of operators
adds up, nearly; so those that make most of it for the work that they are stay in float, as many as are needed, and what
is left is measured.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, log10
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from edgeattn.bundle.tensors import Arrays
from edgeattn.export.quantize import QUANTIZERS, Job
from edgeattn.formats import FORMATS
from edgeattn.lowering.observe import watching
from edgeattn.precision import SqnrLimits
from edgeattn.runtimes import Backend
from edgeattn.system.progress import Progress, silent

# Inputs of the calibration set that each operator is tried on.
_TRIED_ON = 8
# Beyond the limit: the file is judged on other inputs.
_MARGIN_DB = 1.5
# What an element of an activation costs, in multiply-adds: XNNPACK takes about ten instructions, which do four each.
_PER_ELEMENT = 40
# Two values with statistics that are as near are one value.
_SAME = 1e-3


def choose(
    plain: Job,
    keep: tuple[str, ...],
    backend: Backend,
    keeping: Callable[[tuple[str, ...]], Job],
    progress: Progress = silent,
) -> tuple[str, ...]:
    """The operators to keep beside ``keep``; if even the most of them do not give the limit, those that gave most.

    Args:
        plain: of int8, from the artifact that has the operators' names. Its biases are not corrected: corrected ones
            would be wrong for every operator that is not in eight bits.
        keeping: gives the job that makes the file, for the names to keep.
    """
    assert isinstance(plain.precision.limits, SqnrLimits)
    limit_db = plain.precision.limits.on_data_db + _MARGIN_DB
    exact = _outputs(plain.source, plain.calibration, backend)
    before = _db(_noise(keeping(keep), exact, backend))
    if before >= limit_db:
        return ()
    candidates = QUANTIZERS.get(backend.runtime.format).candidates(plain.source)
    few, noises = replace(plain, calibration=plain.calibration[:_TRIED_ON]), {}
    progress.plan(len(candidates))
    for kind, output in candidates:
        progress(f"{backend.runtime.format}: {kind} alone in int8")
        if output not in keep:
            others = tuple(other for _, other in candidates if other != output)
            noises[output] = _noise(replace(few, keep=others), exact[:_TRIED_ON], backend)
    costs = _costs(plain.source, backend.runtime.format)
    ranked = sorted(noises, key=lambda name: noises[name] / costs.get(name, 1), reverse=True)
    best: tuple[float, tuple[str, ...]] = (before, ())
    # All of them are no choice: quantisers refuse to change nothing.
    for number in _numbers([noises[name] for name in ranked], 10 ** -(limit_db / 10)):
        names = tuple(ranked[:number])
        after = _db(_noise(keeping((*keep, *names)), exact, backend))
        best = max(best, (after, names), key=lambda found: found[0])
        if after >= limit_db:
            break
    return best[1]


def _numbers(noises: Sequence[float], limit: float) -> list[int]:
    """How many of the first operators to keep: as many as the sum of the others' noise says, then a quarter more
    each time, but never all."""
    rest = float(sum(noises))
    number = 0
    while number < len(noises) and rest > limit:
        rest -= noises[number]
        number += 1
    numbers = []
    while number < len(noises):
        numbers.append(max(1, number))
        number = numbers[-1] + max(1, numbers[-1] // 4)
    return numbers


def _noise(job: Job, exact: Sequence[Arrays], backend: Backend) -> float:
    """The power of the noise over that of the signal, in the worst output of the file that ``job`` makes."""
    with TemporaryDirectory() as folder:
        path = Path(folder, f"tried{job.source.suffix}")
        QUANTIZERS.get(backend.runtime.format).make(replace(job, path=path))
        found = _outputs(path, job.calibration, backend)
    worst = 0.0
    for name in exact[0]:
        signal = sum(float(np.square(_doubles(values[name])).sum()) for values in exact)
        wrong = (_doubles(a[name]) - _doubles(b[name]) for a, b in zip(found, exact, strict=True))
        noise = sum(float(np.square(difference).sum()) for difference in wrong)
        worst = max(worst, noise / signal if signal else (inf if noise else 0.0))
    return worst if np.isfinite(worst) else inf


def _doubles(values: Any) -> Any:
    return np.asarray(values, np.float64)


def _db(noise: float) -> float:
    return inf if noise == 0 else -10 * log10(noise) if noise < inf else -inf


def _outputs(path: Path, inputs: Sequence[Arrays], backend: Backend) -> list[Arrays]:
    with backend.open(path) as session:
        return [session.run(each) for each in inputs]


def _costs(path: Path, format_: str) -> dict[str, float]:
    """What an operator costs in float and saves in eight bits, by its name and the names of its outputs."""
    costs: dict[str, float] = {}
    for op in FORMATS.get(format_).read(path).ops:
        elements = sum(tensor.size_bytes // tensor.itemsize for tensor in op.outputs)
        cost = float(op.macs or _PER_ELEMENT * elements)
        costs |= dict.fromkeys((op.name, *(tensor.name for tensor in op.outputs)), cost)
    return costs


def layers_behind(
    names: Sequence[str], path: Path, inputs: Arrays, backend: Backend, module: nn.Module, example: tuple[Tensor, ...]
) -> tuple[str, ...]:
    """The paths of the convolutions and linear layers of ``module`` that became the operators ``names`` of the fp32
    artifact ``path``: those with the same values, whatever their order in memory.

    Artifacts have no names of modules. Where nothing fits, or the runtime shows no values, there is none.
    """
    observe = backend.runtime.observe
    if observe is None:
        return ()
    known, of_operators = QUANTIZERS.get(backend.runtime.format).observed(path), dict[str, Any]()

    def note(observed: Any) -> None:
        if known.get(observed.name) in names:
            of_operators[observed.name] = _statistics(observed.value)

    observe(path, inputs, note)
    of_layers: list[tuple[str, Any]] = []

    def leave(layer_path: str, layer: nn.Module, output: Tensor) -> None:
        if isinstance(layer, nn.Conv2d | nn.Linear):
            # Some formats add the bias by an operator of its own; some have a ReLU in the product's.
            shape = [1, -1, *[1] * (output.dim() - 2)] if isinstance(layer, nn.Conv2d) else [-1]
            before = output if layer.bias is None else output - layer.bias.reshape(shape)
            of_layers.extend((layer_path, _statistics(x.detach().numpy())) for x in (output, before, F.relu(output)))

    with watching(module, leave=leave), torch.no_grad():
        module(*example)
    return tuple(
        dict.fromkeys(path for path, mine in of_layers if any(_alike(mine, other) for other in of_operators.values()))
    )


def _statistics(values: Any) -> Any:
    """What does not depend on the order of the values."""
    flat = _doubles(values).ravel()
    size = float(np.abs(flat).max(initial=0.0)) or 1.0
    return flat.size, size, np.array([flat.mean(), flat.std(), flat.min(), flat.max()]) / size


def _alike(one: Any, other: Any) -> bool:
    near = abs(one[1] - other[1]) <= _SAME * one[1]
    return bool(one[0] == other[0] and near and np.allclose(one[2], other[2], rtol=0, atol=_SAME))
