"""Who runs what of TFLite files: XNNPACK, and LiteRT's GPU accelerator on software: `python -m benchmarks.gpu`.

Each model as litert-torch makes it of the plain module, and as `edgeattn export` does, with parity on the GPU. Every
model in a process of its own.
"""

import copy
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.by_model import table
from benchmarks.family.models import BY_NAME, build
from edgeattn import deploy
from edgeattn.errors import EdgeAttnError
from edgeattn.export import source
from edgeattn.formats import FORMATS, Job
from edgeattn.runtimes import RUNTIMES, Share

SAMPLES = {
    "attention (512, 1, 256)": ("attention", ["embed_dim=512", "pixels=1", "patches=256"]),
    "MobileViTv2-0.5 at 128": ("mobilevitv2", ["width=0.5", "image_size=128"]),
    "MobileViTv2-1.0 at 256": ("mobilevitv2", ["width=1.0", "image_size=256"]),
    "digits": ("digits", []),
    "DeepLabv3, 0.5 at 128": ("deeplabv3", ["width=0.5", "image_size=128"]),
    "PSPNet, 0.5 at 128": ("pspnet", ["width=0.5", "image_size=128"]),
    "SSDLite, 0.5 at 128": ("ssdlite", ["width=0.5", "image_size=128"]),
}
GPU = "litert gpu, fp32"


def _shares(path: Path) -> list[str]:
    found = [RUNTIMES.get("litert").share, RUNTIMES.get("litert_gpu").share]
    return [_cell(share(path, "")) for share in found if share]


def _cell(share: Share) -> str:
    pieces = "" if share.partitions in (None, 1) else f", {share.partitions} partitions"
    return f"{share.taken} of {(share.taken or 0) + len(share.left)}{pieces}"


def measure(name: str) -> list[str]:
    """A row of the table."""
    module, inputs = built(name)
    with tempfile.TemporaryDirectory() as folder:
        stock = Path(folder) / "stock.tflite"
        try:
            outputs = tuple(f"y_{number}" for number in range(64))
            FORMATS.get("tflite").convert(
                Job(copy.deepcopy(module), dict(inputs), outputs[: outputs_of(module, inputs)]), stock
            )
            plain = _shares(stock)
        except EdgeAttnError:
            plain = ["refused", "-"]
        bundle = deploy(module, inputs, formats="tflite", out=Path(folder) / "b", name="model")
        (artifact,) = bundle.artifacts
        report = bundle.parity(backends=(GPU,)).report
        units = max(row.max_noise_units or 0 for row in report.rows if row.hop == "conversion")
        verdict = f"same ({units:.1f})" if report.passed else "DIFFERENT"
        return [name, *plain, *_shares(artifact.path), verdict]


def built(name: str) -> tuple[Any, dict[str, Any]]:
    """A sample model, or one of the family, with its example inputs."""
    if name in SAMPLES:
        loaded = source.load(*SAMPLES[name])
        return loaded.module, dict(loaded.inputs)
    module, image = build(BY_NAME[name])
    return module, {"image": image}


def outputs_of(module: Any, inputs: dict[str, Any]) -> int:
    """The number of its outputs."""
    found = module(*inputs.values())
    return len(found) if isinstance(found, tuple | list | dict) else 1


HEAD = ("model", "XNNPACK, plain", "GPU, plain", "XNNPACK, ours", "GPU, ours", "parity on the GPU (noise units)")

if __name__ == "__main__":
    table("benchmarks.gpu", __doc__ or "", HEAD, measure, [*SAMPLES, *BY_NAME])
