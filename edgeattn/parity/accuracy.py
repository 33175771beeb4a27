"""Does it still predict the same classes? Pure functions over the logits of labelled inputs.

A bundle holds the labelled inputs and the reference's logits, so that nothing here needs PyTorch or the model.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.golden import HeldOut
from edgeattn.bundle.manifest import Artifact
from edgeattn.bundle.tensors import from_edge, to_edge, to_first
from edgeattn.precision import PRECISIONS
from edgeattn.runtimes import RunEach, Signature
from edgeattn.verdict import Verdict

Array = npt.NDArray[np.generic]
# Of a mean IoU: a pixel of a class that has few.
_ROUNDING = 0.001
# Inputs in memory, in the artifact's layout and type; a job, on a target.
_AT_ONCE = 1000


@dataclass(frozen=True)
class Score(Verdict):
    """Top-1 of a candidate and of its reference over ``n`` labelled inputs, and how often the two agree; over ``n``
    labelled pixels, where every pixel has a class, and then the means of the classes' IoU too."""

    n: int
    correct: int
    reference_correct: int
    agreeing: int
    miou: float | None = None
    reference_miou: float | None = None


def predictions(logits: Array) -> npt.NDArray[np.int64]:
    """The class [n, ...] of the largest of each row of logits [n, classes, ...]; -1, no class, if any of them is not
    finite."""
    values = np.asarray(logits, np.float64)
    return np.where(np.isfinite(values).all(axis=1), values.argmax(axis=1), -1)


def score(*, reference: Array, candidate: Array, labels: Array, precision: str) -> Score:
    """Judge the ``candidate``'s logits [n, classes, ...] by how often they agree with those of the ``reference``.

    One answer of few may differ wherever some may: it is one between two that are as good. Of pixels twice as many may,
    and always one of ten thousand: some lie where one class ends and another begins.

    Args:
        labels: the true classes [n, ...]; what is below 0 is not judged.
        precision: a name in :data:`~edgeattn.precision.PRECISIONS`.
    """
    judged = np.greater_equal(labels, 0)
    predicted, expected, true = predictions(candidate)[judged], predictions(reference)[judged], labels[judged]
    n = len(true)
    agreeing = int(((predicted == expected) & (expected >= 0)).sum())
    correct, reference_correct = int((predicted == true).sum()), int((expected == true).sum())
    classes = reference.shape[1]
    miou, reference_miou = (mean_iou(x, true, classes) if labels.ndim > 1 else None for x in (predicted, expected))
    limits, reason = PRECISIONS[precision], ""
    most = max((1 - limits.least_agreement) * n, 1 if limits.least_agreement < 1 else 0)
    if labels.ndim > 1:
        most = max(2 * most, n / 10_000)
    if n - agreeing > most:
        reason = f"{n - agreeing} of {n} answers are not the reference's"
    elif reference_correct - correct > max(limits.largest_drop * n, min(most, 1)):
        reason = f"{reference_correct - correct} right answers of {n} are lost"
    elif (
        miou is not None and reference_miou is not None and reference_miou - miou > max(limits.largest_drop, _ROUNDING)
    ):
        reason = f"mIoU is {miou:.2%}, and the reference's {reference_miou:.2%}"
    return Score(
        passed=not reason,
        reason=reason,
        n=n,
        correct=correct,
        reference_correct=reference_correct,
        agreeing=agreeing,
        miou=miou,
        reference_miou=reference_miou,
    )


def mean_iou(predicted: Array, labels: Array, classes: int) -> float:
    """The mean over the classes that there are of intersection over union."""
    shares = []
    for number in range(classes):
        mine, true = predicted == number, labels == number
        if true.any():
            shares.append(int((mine & true).sum()) / int((mine | true).sum()))
    return float(np.mean(shares)) if shares else 0.0


def wilson(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 % for the default ``z`` (Wilson 1927)."""
    share, weight = correct / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * sqrt(share * (1 - share) / n + weight / n / 4) / (1 + weight)
    return middle - half, middle + half


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of an artifact in one runtime over ``n`` labelled inputs or pixels, that of its reference, and how often
    the two agree; for pixels the means of the classes' IoU too."""

    candidate: str
    runtime: str
    passed: bool
    reason: str
    n: int
    correct: int
    reference_correct: int
    agreeing: int
    miou: float | None = None
    reference_miou: float | None = None


def evaluate(artifact: Artifact, runtime: str, signature: Signature, run_each: RunEach, held_out: HeldOut) -> Accuracy:
    """Run every labelled input and judge the predictions; an input that the artifact cannot take counts as wrong."""
    tensor, reference = artifact.inputs[0], held_out.logits
    name = artifact.outputs[0].name
    logits = np.full(reference.shape, np.nan)
    for start in range(0, len(logits), _AT_ONCE):
        some = held_out.inputs[start : start + _AT_ONCE]
        samples = {i: {tensor.name: to_edge(x[None], tensor)} for i, x in enumerate(some, start)}
        accepted = {i: sample for i, sample in samples.items() if signature.accepts(sample)}
        for i, outputs in zip(accepted, run_each(list(accepted.values())), strict=True):
            output = outputs.get(name)
            if output is None:
                continue
            values = to_first(from_edge(output, artifact.outputs[0], reference.dtype), artifact.outputs[0])
            if values.shape == (1, *logits.shape[1:]):
                logits[i] = values[0]
    result = score(reference=reference, candidate=logits, labels=held_out.labels, precision=artifact.precision)
    return Accuracy(artifact.file.path, runtime, **vars(result))
