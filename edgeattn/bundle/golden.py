"""The golden cases of a bundle, and its labelled inputs: their files, and their tensors as an artifact takes them."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.manifest import Artifact, Bundle
from edgeattn.bundle.tensors import Arrays, as_layout, to_edge
from edgeattn.errors import ArtifactError
from edgeattn.system import files

# Of a file of tensors: it is read into memory.
MOST_BYTES = 2**32
# The float types in which PyTorch computed the outputs of a golden case.
FloatPrecision = Literal["fp32", "fp64"]
FLOAT_PRECISIONS: tuple[FloatPrecision, ...] = ("fp32", "fp64")


@dataclass(frozen=True)
class GoldenCase:
    """Inputs, and the outputs of the reference and of each lowered form in PyTorch.

    All arrays are channels-first, whatever the layout inside, by the model's names of inputs and outputs.

    Args:
        inputs: by name.
        references: the reference's outputs, by the precision that they were computed in.
        lowerings: the outputs of the lowered forms, by layout and precision.
        noises: by output, [2]: the largest and the RMS error of the reference in float32 with other sums.
        unsettled: by output of integers or booleans, in its shape: whether rounding decides an element.
    """

    inputs: Arrays
    references: dict[str, Arrays] = field(default_factory=dict)
    lowerings: dict[tuple[str, str], Arrays] = field(default_factory=dict)
    noises: Arrays = field(default_factory=dict)
    unsettled: Arrays = field(default_factory=dict)

    def noise(self, output: str) -> tuple[float, float]:
        """(max, RMS) error of the reference with other sums than its own; zeros if the file has none."""
        worst, rms = self.noises.get(output, np.zeros(2))
        return float(worst), float(rms)

    def reference(self, precision: FloatPrecision) -> Arrays:
        """The reference's outputs by name; empty if the file has none."""
        return self.references.get(precision, {})

    def lowered(self, layout: str, precision: FloatPrecision) -> Arrays:
        """The outputs of the form that is lowered to ``layout``, by name; empty if the file has none."""
        return self.lowerings.get((layout, precision), {})

    def inputs_for(self, artifact: Artifact) -> Arrays:
        """The inputs in the artifact's own layout and type."""
        return {tensor.name: to_edge(self.inputs[tensor.name], tensor) for tensor in artifact.inputs}

    def oracle_for(self, artifact: Artifact) -> Arrays:
        """The outputs in float64 of the lowered form that the artifact was made from, in the artifact's layout."""
        values = self.lowered(artifact.lowering, "fp64")
        return {output.name: as_layout(values[output.name], output) for output in artifact.outputs}

    def reference_for(self, artifact: Artifact) -> Arrays:
        """The outputs of the reference in float32, in the artifact's layout."""
        values = self.reference("fp32")
        return {output.name: as_layout(values[output.name], output) for output in artifact.outputs}

    def unsettled_for(self, artifact: Artifact) -> Arrays:
        """What rounding decides of the artifact's outputs, in its layout."""
        return {o.name: as_layout(self.unsettled[o.name], o) for o in artifact.outputs if o.name in self.unsettled}

    @classmethod
    def read(cls, path: Path) -> Self:
        """The case in a file that :meth:`write` wrote; tensors with other names are ignored.

        Raises:
            ArtifactError: the file cannot be read.
        """
        case = cls({})
        for key, value in _read(path).items():
            if key.startswith(_NOISE) and (value.shape != (2,) or not _sizes(value)):
                raise ArtifactError(f"{path.name} has no two sizes as its {key!r}; export the bundle again")
            form, _, name = key.partition("/")
            match form.split("."):
                case ["noise"]:
                    case.noises[name] = value
                case ["unsettled"]:
                    case.unsettled[name] = value
                case ["input"]:
                    case.inputs[name] = value
                case ["reference", precision]:
                    case.references.setdefault(precision, {})[name] = value
                case ["lowered", layout, precision]:
                    case.lowerings.setdefault((layout, precision), {})[name] = value
        for name, value in case.unsettled.items():
            like = case.reference("fp32").get(name)
            if value.dtype != np.bool_ or like is None or value.shape != like.shape:
                raise ArtifactError(f"{path.name} has no booleans for {name!r} that say what is unsettled in it")
        return case

    def write(self, path: Path) -> None:
        """Write ``path``, a tensor under each of :func:`_input`, :func:`_reference` and :func:`_lowered`."""
        _write(dict(self._tensors()), path)

    def _tensors(self) -> Iterator[tuple[str, npt.NDArray[np.generic]]]:
        yield from ((_input(name), value) for name, value in self.inputs.items())
        yield from ((f"{_NOISE}{name}", value) for name, value in self.noises.items())
        yield from ((f"{_UNSETTLED}{name}", value) for name, value in self.unsettled.items())
        for precision, outputs in self.references.items():
            yield from ((_reference(precision, name), value) for name, value in outputs.items())
        for (layout, precision), outputs in self.lowerings.items():
            yield from ((_lowered(layout, precision, name), value) for name, value in outputs.items())

    def lacking(self, bundle: Bundle) -> str | None:
        """The key of a tensor that the bundle needs and this case lacks, the first by name; None if it lacks none."""
        manifest = bundle.manifest
        needed = set[str]()
        for precision in FLOAT_PRECISIONS:
            for output in manifest.outputs:
                needed.add(_reference(precision, output.name))
                needed |= {_lowered(layout, precision, output.name) for layout in manifest.lowering}
        for artifact in manifest.artifacts:
            needed |= {_lowered(artifact.lowering, "fp64", output.name) for output in artifact.outputs}
            needed |= {_reference("fp32", output.name) for output in artifact.outputs}
            needed |= {_input(tensor.name) for tensor in artifact.inputs}
        return min(needed - dict(self._tensors()).keys(), default=None)


def _sizes(value: npt.NDArray[np.generic]) -> bool:
    numbers = value.astype(np.float64) if value.dtype.kind == "f" else np.full(2, np.nan)
    return bool((np.isfinite(numbers) & (numbers >= 0)).all())


# Older bundles have neither.
_NOISE, _UNSETTLED = "noise/", "unsettled/"


def _input(name: str) -> str:
    return f"input/{name}"


def _reference(precision: str, name: str) -> str:
    return f"reference.{precision}/{name}"


def _lowered(layout: str, precision: str, name: str) -> str:
    return f"lowered.{layout}.{precision}/{name}"


def golden_cases(bundle: Bundle) -> dict[str, GoldenCase]:
    """The golden cases by name.

    Raises:
        ArtifactError: a file cannot be read, or lacks a tensor that the bundle needs.
    """
    return {name: golden_case(bundle, name) for name in bundle.manifest.golden}


def golden_case(bundle: Bundle, name: str) -> GoldenCase:
    """One golden case, of those that the manifest names.

    Raises:
        ArtifactError: its file cannot be read, or lacks a tensor that the bundle needs.
    """
    file = bundle.manifest.golden[name]
    case = GoldenCase.read(bundle.path(file))
    if key := case.lacking(bundle):
        raise ArtifactError(f"{file.path} in {bundle.folder} has no tensor {key!r}; export the bundle again")
    return case


@dataclass(frozen=True)
class HeldOut:
    """Labelled inputs that the model was not trained on, and the reference's logits for them.

    Args:
        inputs: [n, ...], channels-first.
        labels: the true classes [n], or those of the pixels [n, H, W], negative where they are not judged.
        logits: of the reference in float32, [n, classes] or [n, classes, H, W].
    """

    inputs: npt.NDArray[np.generic]
    labels: npt.NDArray[np.generic]
    logits: npt.NDArray[np.generic]

    def first(self, most: int | None) -> "HeldOut":
        """The first ``most`` of them; all, if that is None."""
        return HeldOut(self.inputs[:most], self.labels[:most], self.logits[:most])

    @classmethod
    def read(cls, path: Path) -> Self:
        """What is in a file that :meth:`write` wrote.

        Raises:
            ArtifactError: the file cannot be read, or lacks a tensor.
        """
        tensors = _read(path)
        pixels = tensors.get(_PIXELS)
        if pixels is not None:
            if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1] not in (1, _CHANNELS):
                raise ArtifactError(f"{path.name} has no bytes of images as {_PIXELS!r}; export the bundle again")
            tensors[_HELD_OUT[0]] = _from_pixels(pixels)
        for key in _HELD_OUT:
            if key not in tensors:
                raise ArtifactError(f"{path.name} has no tensor {key!r}; export the bundle again")
        return cls(*(tensors[key] for key in _HELD_OUT))

    def write(self, path: Path) -> None:
        """Write ``path``; pixels that are n / 255 in float32 as a byte each, and those of grey images once."""
        pixels = _pixels(self.inputs)
        values = (self.inputs if pixels is None else pixels, self.labels, self.logits)
        keys = _HELD_OUT if pixels is None else (_PIXELS, *_HELD_OUT[1:])
        _write({key: np.ascontiguousarray(x) for key, x in zip(keys, values, strict=True)}, path)


# The tensors of a file of held-out inputs, in the order of the class's fields.
_HELD_OUT = ("inputs", "labels", "reference.fp32")
# Instead of the first.
_PIXELS = "inputs.pixels"


def _pixels(values: npt.NDArray[np.generic]) -> npt.NDArray[np.uint8] | None:
    """The bytes [n, 3 or 1, H, W] of images of float32 that are n / 255; None if they are others."""
    if values.dtype != np.float32 or values.ndim != 4 or values.shape[1] != _CHANNELS:
        return None
    # NaN and what is far outside become some byte, and are found not to be it.
    with np.errstate(invalid="ignore"):
        pixels = np.rint(values.astype(np.float32) * 255).astype(np.uint8)
    if not np.array_equal(_from_pixels(pixels), values):
        return None
    is_grey = bool((pixels == pixels[:, :1]).all())
    return pixels[:, :1] if is_grey else pixels


def _from_pixels(pixels: npt.NDArray[np.generic]) -> npt.NDArray[np.float32]:
    images = pixels.astype(np.float32) / np.float32(255)
    return np.repeat(images, _CHANNELS // images.shape[1], axis=1)


_CHANNELS = 3


def held_out(bundle: Bundle) -> HeldOut | None:
    """The labelled inputs of a bundle, if it has any.

    Raises:
        ArtifactError: the file cannot be read, or lacks a tensor.
    """
    file = bundle.manifest.evaluation
    if file is None:
        return None
    return HeldOut.read(bundle.path(file))


def _write(tensors: Arrays, path: Path) -> None:
    from safetensors.numpy import save_file

    save_file(tensors, path)


def _read(path: Path) -> Arrays:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        files.check_regular(path, MOST_BYTES)
        return dict(load_file(path))
    except ArtifactError:
        raise
    # AttributeError: a type of number that numpy does not have.
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error
