"""What a parity check has shown: that an artifact is the same model, that it is another, or neither."""

import platform
from collections.abc import Iterable, Iterator

import numpy as np

from edgeattn.bundle.golden import GoldenCase
from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays
from edgeattn.parity.battery import depends_on_input
from edgeattn.parity.verdicts import NotChecked, NotShown, Row
from edgeattn.precision import FP16
from edgeattn.runtimes import backends

ALL_NOISE = "it is nearly all rounding (a noise floor within a hundred of its size): that it agrees proves nothing"
# The case that proves nothing alone: it is no input of the model's own, nor of the user's.
_NOT_OWN = "photograph"
_ARM = ("aarch64", "arm64", "armv7l", "armv8l")


def not_shown(bundle: Bundle, rows: Iterable[Row], not_run: Iterable[NotChecked]) -> Iterator[NotShown]:
    """The artifacts of ``bundle`` that no row proves wrong, and that the rows do not show to be the same model either.

    An artifact that a target does not run by its nature is the caller's to leave out.
    """
    example = next(iter(bundle.manifest.golden), "")
    of_artifact: dict[str, list[Row]] = {artifact.file.path: [] for artifact in bundle.manifest.artifacts}
    for row in rows:
        if row.hop == "conversion":
            of_artifact.setdefault(row.candidate, []).append(row)
    for artifact in bundle.manifest.artifacts:
        path = artifact.file.path
        ran = of_artifact[path]
        if any(not row.passed for row in ran):
            continue
        reasons = {entry.reason for entry in not_run if entry.candidate == path}
        if not ran:
            here = any(not backend.missing for backend in backends(artifact.format))
            yield NotShown(path, f"it was not run: {'; '.join(sorted(reasons)) or 'it has no case'}", here)
        elif not any(row.case == example for row in ran):
            yield NotShown(path, f"the case {example} was not run: {'; '.join(sorted(reasons))}")
        else:
            yield from _all_noise(path, ran)


def _all_noise(path: str, rows: Iterable[Row]) -> Iterator[NotShown]:
    """The outputs of an artifact that are nearly all noise in more than half of the cases."""
    outputs: dict[str, list[bool]] = {}
    for row in rows:
        outputs.setdefault(row.output, []).append(row.shown)
    for output, shown in outputs.items():
        if 2 * sum(shown) < len(shown):
            cases = f"in {len(shown) - sum(shown)} of {len(shown)} cases"
            yield NotShown(path, f"output {output}, {cases}: {ALL_NOISE}")


def must_hold(artifact: Artifact, case: str) -> bool:
    """Whether an artifact fails if its numbers cannot hold the values of a case: the model's own, or the user's."""
    return case != _NOT_OWN and artifact.judged_on is not None and case in artifact.judged_on


def computed_finer(artifact: Artifact, runtime: str) -> NotChecked | None:
    """The note on an artifact that this machine's runtime computes in a higher precision than its own; None if it
    does not."""
    if artifact.precision != FP16.name or artifact.format != "tflite" or platform.machine().lower() in _ARM:
        return None
    return NotChecked(
        artifact.file.path,
        runtime,
        "not shown in fp16: it computes in fp32 on this CPU, and in fp16 on a phone; judge it there, or with "
        "`edgeattn parity BUNDLE --target emulated-arm`",
    )


def unproven(bundle: Bundle, cases: dict[str, GoldenCase]) -> Iterator[str]:
    """What parity on these cases would not prove, a sentence each."""
    if bundle.manifest.calibration and bundle.manifest.calibration.warning:
        yield bundle.manifest.calibration.warning
    # Outputs for one and the same input prove no dependence.
    different = list({_bytes(golden.inputs): golden for golden in reversed(cases.values())}.values())
    for output in bundle.manifest.outputs:
        if not depends_on_input([golden.reference("fp64")[output.name] for golden in different]):
            yield (
                f"output {output.name} does not depend on the input (or is too small to tell): that it is the same "
                "proves nothing; give weights with which the model works"
            )


def _bytes(inputs: Arrays) -> bytes:
    return b"".join(name.encode() + np.ascontiguousarray(x).tobytes() for name, x in sorted(inputs.items()))
