"""Accuracy after export: an artifact answers the labelled inputs of its bundle, one by one.

The file of a bundle holds ``inputs`` [n, ...] (channels-first), ``labels`` [n] and the ``reference.fp32`` logits
[n, classes], so that nothing here needs PyTorch or the model.
"""

from dataclasses import dataclass

import numpy as np

from edgeattn.accuracy import score
from export.bundle import Artifact
from export.runtimes import Arrays, RunEach, Signature, from_edge, to_edge


@dataclass(frozen=True)
class Accuracy:
    """Top-1 of an artifact in one runtime over ``n`` labelled inputs, that of its reference, and how often both
    answer alike."""

    candidate: str
    runtime: str
    passed: bool
    reason: str
    n: int
    correct: int
    reference_correct: int
    agreeing: int


def evaluate(artifact: Artifact, runtime: str, signature: Signature, run_each: RunEach, held_out: Arrays) -> Accuracy:
    """Run every labelled input and judge the answers; what the artifact cannot answer counts as wrong."""
    tensor, reference = artifact.inputs[0], held_out["reference.fp32"]
    name = artifact.outputs[0].name
    logits = np.full(reference.shape, np.nan)
    given = [{tensor.name: to_edge(one[None], tensor)} for one in held_out["inputs"]]
    able = [place for place, one in enumerate(given) if signature.accepts(one)]
    for place, outputs in zip(able, run_each([given[place] for place in able]), strict=True):
        found = outputs.get(name)
        if found is not None and found.shape == (1, *logits.shape[1:]):
            logits[place] = from_edge(found, artifact.outputs[0], reference.dtype)[0]
    result = score(reference=reference, candidate=logits, labels=held_out["labels"], precision=artifact.precision)
    return Accuracy(artifact.file.path, runtime, **vars(result))
