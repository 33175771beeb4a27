"""What works here: each format, runtime and target, tried on one small layer."""

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
    """One format, runtime or target: ``ready`` if nothing is missing, ``works: ...`` if it was tried too, otherwise
    what is missing and the command that mends it. ``broken`` if nothing is missing and it failed all the same;
    ``caveat`` is what to know before one relies on it."""

    kind: str
    name: str
    state: str
    broken: bool = False
    caveat: str = ""


@dataclass(frozen=True)
class _Trial:
    """The layer as one format has it, and what the reference answers: in float64, and in float32."""

    path: Path
    inputs: Arrays
    oracle: npt.NDArray[np.float64]
    reference: npt.NDArray[np.float32]

    def judge(self, outputs: Arrays) -> None:
        (found,) = outputs.values()
        verdict = compare(oracle=self.oracle, reference=self.reference, candidate=found, precision=FP32.name)
        if not verdict.passed:
            raise BadInputError(f"its answer is not the reference's: {verdict.reason}")


def look() -> tuple[Finding, ...]:
    """What is installed, and nothing is tried."""
    found = []
    for kind in ("formats", "runtimes", "targets"):
        for name in _names(kind):
            found.append(_finding(kind, name, _missing(kind, name) or "ready"))
    return tuple(found)


def examine(progress: Progress = silent) -> tuple[Finding, ...]:
    """What is installed, and whether it works: the layer is converted to each format, run in each runtime, and once on
    each target that can be reached for nothing. All that runs is judged as parity judges."""
    trials: dict[str, _Trial] = {}
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        attempts: dict[str, Callable[[dict[str, _Trial], str], str | None]] = {
            "formats": partial(_convert, Path(scratch)),
            "runtimes": _run,
            "targets": _reach,
        }
        asked = [(kind, name, _missing(kind, name)) for kind in attempts for name in _names(kind)]
        progress.plan(sum(not reason for *_, reason in asked))
        return tuple(
            _finding(kind, name, reason)
            if reason
            else _tried(kind, name, partial(attempts[kind], trials, name), progress)
            for kind, name, reason in asked
        )


def _tried(kind: str, name: str, attempt: Callable[[], str | None], progress: Progress) -> Finding:
    """``attempt`` says what was done, or None if there was nothing to do."""
    progress(f"trying {_spelled(kind, name)}")
    begun = time.monotonic()
    try:
        done = attempt()
    except MissingError as error:
        return _finding(kind, name, str(error))
    except EdgeAttnError as error:
        return _finding(kind, name, f"does not work: {error}{_mend(kind, name)}", broken=True)
    except Exception as error:  # noqa: BLE001  # whatever a broken installation raises is the answer to the question
        said = f"{type(error).__name__}: {error}"
        return _finding(kind, name, f"does not work: {said}{_mend(kind, name)}", broken=True)
    return _finding(kind, name, f"works: {done}, {time.monotonic() - begun:.1f} s" if done else "ready, not tried")


def _finding(kind: str, name: str, state: str, *, broken: bool = False) -> Finding:
    caveat = TARGETS.get(name).caveat if kind == "targets" else ""
    return Finding(kind, _spelled(kind, name), state, broken, caveat)


def _mend(kind: str, name: str) -> str:
    """What is worth trying where something is installed and fails."""
    if kind == "targets":
        return f"; try: edgeattn setup {plugins.spelled(name)}" if name in SETUPS.names else ""
    extra = FORMATS.get(name).extra if kind == "formats" else RUNTIMES.get(name).extra
    return f"; try: pip install --force-reinstall 'edgeattn[{extra}]'"


def _names(kind: str) -> tuple[str, ...]:
    return {"formats": FORMATS.names, "runtimes": RUNTIMES.names, "targets": TARGETS.names}[kind]


def _spelled(kind: str, name: str) -> str:
    """As it is typed: a target with dashes."""
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
        # Not the global generator: nobody expects that of a doctor.
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
    ways = [way for way in runtimes.backends(runtime.format) if way.runtime is runtime]
    for way in ways:
        with way.open(trial.path) as session:
            trial.judge(session.run(trial.inputs))
    return "ran it" if len(ways) == 1 else f"ran it on {', '.join(way.label for way in ways)}"


def _reach(trials: dict[str, _Trial], name: str) -> str | None:
    target = TARGETS.get(name)
    if target.addresses is not None:
        return f"attached: {', '.join(target.addresses())}"
    if not target.trial:
        return None
    ran = []
    with targets.connect(name, {}) as connection:
        for format_, known in connection.runtimes.items():
            for runtime in known:
                if format_ in trials:
                    trial = trials[format_]
                    seen = connection.run(targets.Job(trial.path, trial.inputs, warmup=1, runs=1, runtime=runtime))
                    trial.judge(seen.last)
                    ran.append(runtime)
    return f"ran it in {', '.join(ran)}" if ran else None
