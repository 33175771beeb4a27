"""From PyTorch to files: everybody's form through everybody's converter, or the error that it ends with."""

import inspect
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor, nn

from benchmarks.peers import environments, models
from edgeattn.attention import LinearSelfAttention
from edgeattn.errors import EdgeAttnError
from edgeattn.formats import FORMATS, Job
from edgeattn.lowering import lower
from edgeattn.lowering.edges import in_layout
from edgeattn.system.vendor_errors import first_line
from edgeattn.system.versions import versions

OURS = "edgeattn, lowered"
CONVERTERS = {
    "onnx": "torch.onnx",
    "tflite": "litert-torch",
    "executorch": "executorch",
    "coreml": "coremltools",
    "coreai": "coreai-torch",
}


@dataclass(frozen=True)
class Subject:
    """The model to convert: the plain PyTorch form, which is also the oracle, and its input."""

    title: str
    module: nn.Module
    input_name: str
    x: Tensor


@dataclass(frozen=True)
class Candidate:
    """One form through one converter: a file, or why there is none."""

    form: str
    converter: str
    format: str
    path: Path | None
    error: str = ""


def whole_model(folder: Path) -> tuple[Subject, list[Candidate]]:
    """MobileViTv2-1.0 at 256; our own files go to ``folder``, those of the peers are cached."""
    ours, image = models.reference()
    subject = Subject("MobileViTv2-1.0, [1, 3, 256, 256]", ours, "image", image)
    theirs, unfolding = models.transformers_form(ours), models.cvnets_form(ours)
    return subject, [
        _lowered(subject, "onnx", folder),
        _attempt("edgeattn, not lowered", "onnx", lambda: _direct(subject, ours, "onnx")),
        _attempt("transformers", "onnx", lambda: _direct(subject, theirs, "onnx")),
        _attempt("timm", "onnx", lambda: _timm(ours)),
        _attempt("CVNets' form (stand-in)", "onnx", lambda: _direct(subject, unfolding, "onnx")),
        _lowered(subject, "tflite", folder),
        _attempt("transformers", "tflite", lambda: _direct(subject, theirs, "tflite")),
        _attempt("transformers", "tflite", lambda: _onnx2tf(_direct(subject, theirs, "onnx")), "onnx2tf"),
        _lowered(subject, "executorch", folder),
        _attempt("edgeattn, not lowered", "executorch", lambda: _direct(subject, ours, "executorch")),
        _attempt("transformers", "executorch", lambda: _direct(subject, theirs, "executorch")),
        _lowered(subject, "coreml", folder),
        _attempt("transformers", "coreml", lambda: _direct(subject, theirs, "coreml")),
        _lowered(subject, "coreai", folder),
        _attempt("transformers", "coreai", lambda: _direct(subject, theirs, "coreai")),
    ]


def attention(folder: Path) -> tuple[Subject, list[Candidate]]:
    """The layer alone, where it is largest: C = 512, P = 1, N = 256."""
    torch.manual_seed(0)
    layer = LinearSelfAttention(512).eval()
    subject = Subject("Separable self-attention, [1, 512, 1, 256]", layer, "x", torch.randn(1, 512, 1, 256))
    return subject, [
        _lowered(subject, "onnx", folder),
        _attempt("edgeattn, not lowered", "onnx", lambda: _direct(subject, layer, "onnx")),
        _lowered(subject, "tflite", folder),
        _attempt("edgeattn, not lowered", "tflite", lambda: _direct(subject, layer, "tflite")),
        _attempt("edgeattn, not lowered", "tflite", lambda: _onnx2tf(_direct(subject, layer, "onnx")), "onnx2tf"),
        _lowered(subject, "executorch", folder),
        _attempt("edgeattn, not lowered", "executorch", lambda: _direct(subject, layer, "executorch")),
        _lowered(subject, "coreml", folder),
        _attempt("edgeattn, not lowered", "coreml", lambda: _direct(subject, layer, "coreml")),
        _lowered(subject, "coreai", folder),
        _attempt("edgeattn, not lowered", "coreai", lambda: _direct(subject, layer, "coreai")),
    ]


def _attempt(form: str, format_name: str, make: Callable[[], Path], converter: str = "") -> Candidate:
    converter = converter or CONVERTERS[format_name]
    try:
        return Candidate(form, converter, format_name, make())
    except EdgeAttnError as error:
        # A compiler names the source line with the full path on this machine; keep the file's name only.
        reason = re.sub(r"(?<!\S)/\S*/", "", first_line(error))
        return Candidate(form, converter, format_name, None, reason)


def _lowered(subject: Subject, format_name: str, folder: Path) -> Candidate:
    """Ours, as `edgeattn export` makes it."""
    format_ = FORMATS.get(format_name)

    def make() -> Path:
        lowering = lower(subject.module, layout=format_.layout, inputs=(subject.x,))
        x = in_layout(subject.x, format_.layout)
        path = folder / f"{subject.input_name}{format_.suffix}"
        format_.convert(Job(lowering.with_edges(format_.layout), {subject.input_name: x}, ("y",)), path)
        return path

    return _attempt(OURS, format_name, make)


def _direct(subject: Subject, module: nn.Module, format_name: str) -> Path:
    """``module`` as it is, through the same call of the same converter that ours goes through."""
    format_ = FORMATS.get(format_name)
    job = Job(module, {subject.input_name: subject.x}, ("y",))
    sources = [Path(str(inspect.getsourcefile(of))).read_bytes() for of in (models, type(format_))]
    depends_on = (repr(module).encode(), save(module.state_dict()), json.dumps(all_versions()).encode(), *sources)
    return environments.cached(f"model{format_.suffix}", depends_on, lambda path: format_.convert(job, path))


def all_versions() -> dict[str, str]:
    """Ours and the peers'."""
    own = {**versions(), "transformers": version("transformers")}
    return own | {name: environments.pinned(name) for name in ("timm", "onnx2tf")}


def _timm(ours: nn.Module) -> Path:
    """timm's own model with our weights, exported inside its environment by the same call as ours."""
    weights = save({name: value.contiguous() for name, value in ours.state_dict().items()})
    format_ = FORMATS.get("onnx")
    sources = [Path(str(inspect.getsourcefile(of))).read_bytes() for of in (models, type(format_))]
    script = environments.HERE / "timm_export.py"

    def make(path: Path) -> None:
        weights_file = path.with_name("weights.safetensors")
        weights_file.write_bytes(weights)
        environments.run(
            environments.programs("timm") / "python", "-m", "benchmarks.peers.timm_export", weights_file, path
        )

    depends_on = (weights, environments.pins("timm"), script.read_bytes(), *sources)
    return environments.cached("timm.onnx", depends_on, make)


def _onnx2tf(source: Path) -> Path:
    """``source`` (.onnx) as onnx2tf converts it with its own defaults, inside its environment."""

    def make(path: Path) -> None:
        scratch = path.parent
        # onnx2tf looks for this file where it is started, and would download it: images to compare outputs with.
        images = np.random.default_rng(0).random((20, 128, 128, 3), dtype=np.float32)
        np.save(scratch / "calibration_image_sample_data_20x128x128x3_float32.npy", images)
        program = environments.programs("onnx2tf") / "onnx2tf"
        # A copy: onnx2tf writes its simplified graph over its input file.
        copy_of_source = shutil.copy(source, scratch / "model.onnx")
        environments.run(program, "-i", copy_of_source, "-o", scratch / "out", "--non_verbose", cwd=scratch)
        (scratch / "out/model_float32.tflite").rename(path)

    return environments.cached("onnx2tf.tflite", (source.read_bytes(), environments.pins("onnx2tf")), make)
