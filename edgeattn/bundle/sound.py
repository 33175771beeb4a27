"""What a manifest must say besides what its types do: with less, a check would have nothing to judge, and pass."""

from collections import Counter
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeattn.bundle.manifest import Artifact, Manifest, Tensor

# The types of quantisation steps, with the smallest and the largest one.
_STEPS = {f"{sign}int{bits}": (bits, sign) for bits in (8, 16, 32) for sign in ("", "u")}


def problems(manifest: "Manifest") -> Iterator[str]:
    """What is wrong, a clause each."""
    named = {
        "golden case": manifest.golden,
        "artifact": manifest.artifacts,
        "input": manifest.inputs,
        "output": manifest.outputs,
        "lowering": manifest.lowering,
    }
    for what, entries in named.items():
        if not entries:
            yield f"it names no {what}, so that there is nothing to check"
    yield from _tensors("the model", manifest.inputs, manifest.outputs)
    if manifest.picture is not None and manifest.picture not in [tensor.name for tensor in manifest.inputs]:
        yield f"it has no input {manifest.picture!r:.80} for the picture"
    if twice := _twice([artifact.file.path for artifact in manifest.artifacts]):
        yield f"it names the artifact {twice!r:.80} twice"
    for artifact in manifest.artifacts:
        yield from _artifact(artifact, manifest)


def _artifact(artifact: "Artifact", manifest: "Manifest") -> Iterator[str]:
    name = f"{artifact.file.path!r:.80}"
    if artifact.lowering not in manifest.lowering:
        yield f"{name} is made from the lowering {artifact.lowering!r:.40}, which the manifest does not have"
    if not artifact.outputs:
        yield f"{name} has no output"
    yield from _tensors(name, artifact.inputs, artifact.outputs)


def _tensors(owner: str, inputs: "Sequence[Tensor]", outputs: "Sequence[Tensor]") -> Iterator[str]:
    for side, tensors in (("input", inputs), ("output", outputs)):
        if twice := _twice([tensor.name for tensor in tensors]):
            yield f"{owner} has two {side}s of the name {twice!r:.80}"
        for tensor in tensors:
            if problem := _steps(tensor):
                yield f"the {side} {tensor.name!r:.80} of {owner} {problem}"


def _twice(names: Sequence[str]) -> str | None:
    return next((name for name, number in Counter(names).items() if number > 1), None)


def _steps(tensor: "Tensor") -> str:
    if tensor.scale is None:
        return ""
    if tensor.dtype not in _STEPS:
        return f"holds steps of the type {tensor.dtype!r:.40}, which is none of {', '.join(_STEPS)}"
    if not isfinite(tensor.scale) or tensor.scale <= 0:
        return f"has steps of the size {tensor.scale:g}"
    bits, sign = _STEPS[tensor.dtype]
    low, high = (0, 2**bits - 1) if sign else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    if tensor.zero_point is not None and not low <= tensor.zero_point <= high:
        return f"has its zero at a step that {tensor.dtype} does not have"
    return ""
