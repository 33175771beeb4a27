"""Does it still predict the same classes? Pure functions over the logits of labelled inputs.

A bundle holds the labelled inputs and the reference's logits, so that nothing here needs PyTorch or the model.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.golden import HeldOut
from edgeattn.bundle.manifest import Artifact
from edgeattn.bundle.tensors import from_edge, to_edge
from edgeattn.precision import PRECISIONS
from edgeattn.runtimes import RunEach, Signature
from edgeattn.verdict import Verdict

Array = npt.NDArray[np.generic]
# Inputs in memory, in the artifact's layout and type; a job, on a target.
_AT_ONCE = 1000


@dataclass(frozen=True)
class Score(Verdict):
    """Top-1 of a candidate and of its reference over ``n`` labelled inputs, and how often the two agree."""

    n: int
    correct: int
    reference_correct: int
    agreeing: int


def predictions(logits: Array) -> npt.NDArray[np.int64]:
    """The class [n] of the largest of each row of logits [n, classes]; -1, no class, if any of them is not finite."""
    values = np.asarray(logits, np.float64)
    return np.where(np.isfinite(values).all(axis=1), values.argmax(axis=1), -1)


def score(*, reference: Array, candidate: Array, labels: Array, precision: str) -> Score:
    """Judge the ``candidate``'s logits [n, classes] by how often they agree with those of the ``reference``.

    Args:
        labels: the true classes [n].
        precision: a name in :data:`~edgeattn.precision.PRECISIONS`.
    """
    predicted, expected = predictions(candidate), predictions(reference)
    agreeing = int(((predicted == expected) & (expected >= 0)).sum())
    correct, reference_correct = int((predicted == labels).sum()), int((expected == labels).sum())
    limits, reason = PRECISIONS[precision], ""
    if agreeing < limits.least_agreement * len(labels):
        reason = f"{len(labels) - agreeing} of {len(labels)} answers are not the reference's"
    elif reference_correct - correct > limits.largest_drop * len(labels):
        reason = f"{reference_correct - correct} right answers of {len(labels)} are lost"
    return Score(
        passed=not reason,
        reason=reason,
        n=len(labels),
        correct=correct,
        reference_correct=reference_correct,
        agreeing=agreeing,
    )


def wilson(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, at 95 % for the default ``z`` (Wilson 1927)."""
    share, weight = correct / n, z * z / n
    middle = (share + weight / 2) / (1 + weight)
    half = z * sqrt(share * (1 - share) / n + weight / n / 4) / (1 + weight)
    return middle - half, middle + half


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of an artifact in one runtime over ``n`` labelled inputs, that of its reference, and how often the
    two agree."""

    candidate: str
    runtime: str
    passed: bool
    reason: str
    n: int
    correct: int
    reference_correct: int
    agreeing: int


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
            if output is not None and output.shape == (1, *logits.shape[1:]):
                logits[i] = from_edge(output, artifact.outputs[0], reference.dtype)[0]
    result = score(reference=reference, candidate=logits, labels=held_out.labels, precision=artifact.precision)
    return Accuracy(artifact.file.path, runtime, **vars(result))
