"""Core ML itself, on macOS, once for each compute unit (not run on hardware by this project's own tests)."""

import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import RefusedError
from edgeattn.formats.mil import classifier
from edgeattn.formats.mil.package import main_function
from edgeattn.runtimes import Runtime, Session, Share, Signature, _compute_plan
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

# The compute units that run an artifact: the name in reports and records, also where the Mac or an iPhone is a target,
# and the name in coremltools.ComputeUnit.
UNITS = {
    "coreml, CPU only": "CPU_ONLY",
    "coreml, CPU and GPU": "CPU_AND_GPU",
    "coreml, CPU and Neural Engine": "CPU_AND_NE",
    "coreml, all": "ALL",
}


class CoreMl(Runtime):
    format = "coreml"
    extra = "coreml"
    packages = ("coremltools",)
    variants: Mapping[str, str] = UNITS
    unexamined = "Core ML decides on the device; there is no such view outside macOS"

    def unavailable(self) -> str | None:
        return None if platform.system() == "Darwin" else f"Core ML runs on macOS only, and this is {platform.system()}"

    def version(self) -> str:
        return f"macOS {platform.mac_ver()[0]}"

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        """Load the package for the compute units ``variant``, all of them where it is "".

        Core ML chooses its own threads.

        Raises:
            RefusedError: Core ML refuses the package.
        """
        with tempfile.TemporaryDirectory() as scratch:
            try:
                # A copy: coremltools rewrites the manifest of a package that it loads, and a bundle's files are hashed.
                copy = shutil.copytree(path, Path(scratch) / path.name)
                with quiet():
                    import coremltools as ct

                    model = ct.models.MLModel(str(copy), compute_units=ct.ComputeUnit[UNITS[variant or "coreml, all"]])
            except Exception as error:
                raise RefusedError(f"Core ML refuses {path}: {first_line(error)}") from error
            yield _Session(model)

    def share(self, path: Path, variant: str = "") -> Share:
        """What Core ML plans to run on the units ``variant`` beside the CPU.

        Raises:
            RefusedError: Core ML refuses the package, or has no plan: that needs macOS 14.4.
        """
        with self.open(path, variant=variant) as session:
            assert isinstance(session, _Session)
            try:
                from coremltools.models.compute_plan import MLComputePlan

                with quiet():
                    plan = MLComputePlan.load_from_path(
                        session.model.get_compiled_model_path(), session.model.compute_unit
                    )
                label = variant or "coreml, all"
                return _compute_plan.share(plan, label, on_cpu=UNITS[label] == "CPU_ONLY")
            except Exception as error:
                raise RefusedError(f"Core ML has no compute plan for {path}: {first_line(error)}") from error


RUNTIME: Runtime = CoreMl()


class _Session(Session):
    def __init__(self, model: Any) -> None:
        self.model = model
        self.spec = model.get_spec()
        _, block = main_function(self.spec)
        inputs = {i.name: _shape(i.type) for i in self.spec.description.input}
        self.signature = Signature(inputs, classifier.outputs(block))

    def run(self, inputs: Arrays) -> Arrays:
        return as_given(self.spec, self.model.predict(as_taken(self.spec.description, inputs)))


def as_taken(description: Any, inputs: Arrays) -> dict[str, Any]:
    """Inputs as coremltools' ``predict`` takes them: pictures, [1, C, H, W] from 0 to 255, as Pillow's images."""
    from PIL import Image

    images = {i.name for i in description.input if i.type.WhichOneof("Type") == "imageType"}
    result: dict[str, Any] = dict(inputs)
    for name in images & inputs.keys():
        pixels = inputs[name][0].astype(np.uint8).transpose(1, 2, 0)
        result[name] = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    return result


def as_given(spec: Any, results: dict[str, Any]) -> Arrays:
    """What ``predict`` returns as tensors: of a classifier the probabilities, in the order of its classes."""
    if labels := classifier.labels_of(spec):
        _, block = main_function(spec)
        (name,), by_label = classifier.outputs(block), results[classifier.PROBABILITIES]
        return {name: np.array([[by_label[label] for label in labels]], np.float32)}
    return {name: np.asarray(value) for name, value in results.items()}


def _shape(kind: Any) -> tuple[int | None, ...]:
    if kind.WhichOneof("Type") == "imageType":
        image = kind.imageType
        return (1, 1 if image.colorSpace == image.GRAYSCALE else 3, image.height, image.width)
    array = kind.multiArrayType
    ranges = array.shapeRange.sizeRanges
    if not ranges:
        return tuple(array.shape)
    return tuple(r.lowerBound if r.lowerBound == r.upperBound else None for r in ranges)
