"""Run inside timm's own environment: WEIGHTS.safetensors (our names) OUT.onnx, through the exporter that we use."""

import sys
from pathlib import Path

import torch
from safetensors.torch import load_file

from benchmarks import real_timm
from benchmarks.peers.models import give_weights
from edgeattn.formats import Job, onnx


def main(weights: Path, out: Path) -> None:
    model = real_timm.load().create_model("mobilevitv2_100", pretrained=False)
    give_weights(model, load_file(weights))
    onnx.FORMAT.convert(Job(model.eval(), {"image": torch.zeros(1, 3, 256, 256)}, ("y",)), out)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
