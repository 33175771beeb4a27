"""Checks each format, runtime and target of this machine on one small layer."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeattn import runtimes, targets
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError, EdgeAttnError, MissingError
from edgeattn.formats import FORMATS
from edgeattn.parity.metrics import compare
from edgeattn.precision import FP32
from edgeattn.runtimes import RUNTIMES
from edgeattn.setups import SETUPS
from edgeattn.system import plugins
from edgeattn.system.progress import Progress, silent
from edgeattn.targets import TARGETS


@dataclass(frozen=True)
class Finding:
    """The state of one format, runtime or target: ``ready`` if nothing is missing, ``works: ...`` if it also ran, else
    what is missing and the command that installs it. ``broken``: nothing is missing, and it failed; ``caveat``: a
    limit of the target that a user must know."""

    kind: str
    name: str
    state: str
    broken: bool = False
    caveat: str = ""


@dataclass(frozen=True)
class _Trial:
    """The layer in one format, its inputs, and the outputs of the reference in float64 and float32."""

    path: Path
    inputs: Arrays
    oracle: npt.NDArray[np.float64]
    reference: npt.NDArray[np.float32]

    def judge(self, outputs: Arrays) -> None:
        (output,) = outputs.values()
        verdict = compare(oracle=self.oracle, reference=self.reference, candidate=output, precision=FP32.name)
        if not verdict.passed:
            raise BadInputError(f"its output is not the reference's: {verdict.reason}")


def installed() -> tuple[Finding, ...]:
    """What is installed; nothing is run."""
    findings = []
    for kind in ("formats", "runtimes", "targets"):
        for name in _names(kind):
            findings.append(_finding(kind, name, _missing(kind, name) or "ready"))
    return tuple(findings)


def examine(progress: Progress = silent) -> tuple[Finding, ...]:
    """What is installed, and whether it works: convert the layer to each format, run it in each runtime, and on each
    target that allows a free trial. Parity judges the outputs."""
    trials: dict[str, _Trial] = {}
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        attempts: dict[str, Callable[[dict[str, _Trial], str], str | None]] = {
            "formats": partial(_convert, Path(scratch)),
            "runtimes": _run,
            "targets": _reach,
        }
        candidates = [(kind, name, _missing(kind, name)) for kind in attempts for name in _names(kind)]
        progress.plan(sum(not reason for *_, reason in candidates))
        return tuple(
            _finding(kind, name, reason)
            if reason
            else _tried(kind, name, partial(attempts[kind], trials, name), progress)
            for kind, name, reason in candidates
        )


def _tried(kind: str, name: str, attempt: Callable[[], str | None], progress: Progress) -> Finding:
    """Run ``attempt``, which returns what it did, or None if there was nothing to do."""
    progress(f"trying {_spelled(kind, name)}")
    start = time.monotonic()
    try:
        done = attempt()
    except MissingError as error:
        return _finding(kind, name, str(error))
    except EdgeAttnError as error:
        return _finding(kind, name, f"does not work: {error}{_fix(kind, name)}", broken=True)
    except Exception as error:  # noqa: BLE001  # a broken installation may raise anything
        message = f"{type(error).__name__}: {error}"
        return _finding(kind, name, f"does not work: {message}{_fix(kind, name)}", broken=True)
    return _finding(kind, name, f"works: {done}, {time.monotonic() - start:.1f} s" if done else "ready, not tried")


def _finding(kind: str, name: str, state: str, *, broken: bool = False) -> Finding:
    caveat = TARGETS.get(name).caveat if kind == "targets" else ""
    return Finding(kind, _spelled(kind, name), state, broken, caveat)


def _fix(kind: str, name: str) -> str:
    """A command that may repair an installation that fails."""
    if kind == "targets":
        return f"; try: edgeattn setup {plugins.spelled(name)}" if name in SETUPS.names else ""
    extra = FORMATS.get(name).extra if kind == "formats" else RUNTIMES.get(name).extra
    return f"; try: pip install --force-reinstall 'edgeattn[{extra}]'"


def _names(kind: str) -> tuple[str, ...]:
    return {"formats": FORMATS.names, "runtimes": RUNTIMES.names, "targets": TARGETS.names}[kind]


def _spelled(kind: str, name: str) -> str:
    """The name as a user types it: a target with dashes."""
    return plugins.spelled(name) if kind == "targets" else name


def _missing(kind: str, name: str) -> str | None:
    if kind == "targets":
        return TARGETS.get(name).unavailable()
    if kind == "runtimes":
        return runtimes.missing(RUNTIMES.get(name))
    format_ = FORMATS.get(name)
    try:
        plugins.require(*format_.packages, extra=format_.extra)
    except MissingError as error:
        return str(error)
    return None


def _convert(scratch: Path, trials: dict[str, _Trial], name: str) -> str:
    import copy

    import torch

    from edgeattn import LinearSelfAttention
    from edgeattn.export import single

    format_ = FORMATS.get(name)
    generator = torch.Generator().manual_seed(0)
    layer, x = LinearSelfAttention(8).eval(), torch.randn(1, 8, 4, 16, generator=generator)
    with torch.no_grad():
        # Leaves torch's global random state alone.
        for parameter in layer.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        answers = [copy.deepcopy(layer).double()(x.double()).numpy(), layer(x).numpy()]
    path = scratch / f"layer{format_.suffix}"
    inputs = single.convert(layer, {"x": x}, name, path, lowered=True)
    if format_.layout == "channels_last":
        answers = [answer.transpose(0, 2, 3, 1) for answer in answers]
    trials[name] = _Trial(path, inputs, *answers)
    return "converted a layer"


def _run(trials: dict[str, _Trial], name: str) -> str | None:
    runtime = RUNTIMES.get(name)
    if runtime.format not in trials:
        return None
    trial = trials[runtime.format]
    backends = runtimes.backends(runtime.format, (name,))
    for backend in backends:
        with backend.open(trial.path) as session:
            trial.judge(session.run(trial.inputs))
    return "ran it" if len(backends) == 1 else f"ran it on {', '.join(backend.label for backend in backends)}"


def _reach(trials: dict[str, _Trial], name: str) -> str | None:
    target = TARGETS.get(name)
    if target.addresses is not None:
        return f"attached: {', '.join(target.addresses())}"
    if not target.trial:
        return None
    runtimes_run = []
    with targets.connect(name, {}) as connection:
        for format_, names in connection.runtimes.items():
            for runtime in names:
                if format_ in trials:
                    trial = trials[format_]
                    measurement = connection.run(
                        targets.Job(trial.path, trial.inputs, warmup=1, runs=1, runtime=runtime)
                    )
                    trial.judge(measurement.last)
                    runtimes_run.append(runtime)
    return f"ran it in {', '.join(runtimes_run)}" if runtimes_run else None
