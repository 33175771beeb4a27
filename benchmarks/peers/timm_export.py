"""Run inside timm's own environment: WEIGHTS.safetensors (our names) OUT.onnx, through the exporter that we use."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks.peers.models import give_weights
from edgeattn.formats import Job, onnx

try:
    import torchvision  # noqa: F401 - timm imports it for its data loaders; the model uses none of it
except RuntimeError:
    # Its compiled kernels are built for CUDA and do not load beside a CPU torch. Their Python side only needs the
    # names of these two; they have no kernel, and are never called.
    library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        library.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")


def main(weights: Path, out: Path) -> None:
    import timm

    model = timm.create_model("mobilevitv2_100", pretrained=False)
    give_weights(model, load_file(weights))
    onnx.FORMAT.convert(Job(model.eval(), {"image": torch.zeros(1, 3, 256, 256)}, ("y",)), out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
