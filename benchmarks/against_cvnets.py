"""The dense heads against CVNets itself: `python benchmarks/against_cvnets.py FOLDER [--keys DIR]`.

FOLDER is a clone of github.com/apple/ml-cvnets, whose code is run. Both get the same random weights, by way of its own
state_dict, in float64. `--keys` writes the lists of tests/cvnets_keys. Not part of the tests: CVNets is on no registry.
"""

import argparse
import contextlib
import io
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import MagicMock

import torch
import yaml
from torch import Tensor, nn

from edgeattn.export.weights import load_weights
from edgeattn.sample_models import MODELS

CONFIGS = {
    "deeplabv3": ("segmentation/pascal_voc/deeplabv3_mobilevitv2", "segmentation/ade20k/deeplabv3_mobilevitv2"),
    "pspnet": ("segmentation/pascal_voc/pspnet_mobilevitv2", "segmentation/ade20k/pspnet_mobilevitv2"),
    "ssdlite": ("detection/ssd_coco/mobilevit_v2",),
}
COCO_CLASSES = 81
WIDTHS = (0.5, 1.0, 2.0)
NOT_CALLED = ("coremltools", "cv2", "fvcore", "matplotlib", "torchvision")


class _Stubs:
    """Stands for the packages that CVNets imports and these models do not call."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=True) if name.partition(".")[0] in NOT_CALLED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = ModuleType(spec.name)
        module.__getattr__ = lambda name: MagicMock()
        return module

    def exec_module(self, module: ModuleType) -> None:
        pass


def theirs(folder: Path, config: str, width: float) -> nn.Module:
    """CVNets' model by one of its own configurations, with statistics and affine parts that are not 0 and 1."""
    from cvnets import get_model, modeling_arguments
    from options.utils import flatten_yaml_as_dict

    options = modeling_arguments(argparse.ArgumentParser()).parse_args([])
    given = flatten_yaml_as_dict(yaml.safe_load((folder / "config" / f"{config}.yaml").read_text()))
    given |= {
        "model.classification.mitv2.width_multiplier": width, "model.classification.pretrained": None,
        "model.normalization.name": "batch_norm", "model.detection.n_classes": COCO_CLASSES,
        "ddp.rank": 0, "dev.device": torch.device("cpu"),
    }  # fmt: skip
    for key, value in given.items():
        setattr(options, key, value)
    with contextlib.redirect_stdout(io.StringIO()):
        model: nn.Module = get_model(options, category=config.partition("/")[0])
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight)
        if isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(part.weight, 1, 0.2)
            nn.init.normal_(part.bias, 0, 0.2)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.2)
            part.running_var.uniform_(0.5, 1.5)
    return model.double().eval()


def outputs(model: nn.Module, image: Tensor) -> list[Tensor]:
    """Of CVNets' model: logits, or boxes and probabilities before its NMS."""
    if not hasattr(model, "ssd_forward"):
        return [model(image)]
    logits, locations, anchors = model.ssd_forward(model.get_backbone_features(image))
    return [model.match_prior.convert_to_boxes(locations, anchors), logits.softmax(-1)]


def difference(name: str, model: nn.Module, size: int) -> float:
    """The largest difference of any output, relative to the largest of its values."""
    found = MODELS.get(name).recognise(model.state_dict())
    ours = MODELS.get(name).build(**found.arguments, image_size=size)[0].double()
    load_weights(ours, found.state, None)
    image = torch.rand(1, 3, size, size, dtype=torch.float64)
    with torch.no_grad():
        given = ours.eval()(image)
        pairs = zip(outputs(model, image), (given,) if isinstance(given, Tensor) else given, strict=True)
        return max(float((a - b).abs().max() / a.abs().max()) for a, b in pairs)


def write_keys(folder: Path, name: str, config: str, state: dict[str, Tensor], commit: str) -> None:
    """One list for the encoder, which is below all heads, and one for this head: key and shape."""
    lists: dict[str, list[str]] = {"encoder": [], name: []}
    for key, value in state.items():
        lists["encoder" if key.startswith("encoder.") else name].append(f"{key} {list(value.shape)}\n")
    for part, lines in lists.items():
        head = (
            f"# state_dict of CVNets' own {'encoder, MobileViTv2-1.0' if part == 'encoder' else part}: key and shape.\n"
            f"# github.com/apple/ml-cvnets at {commit},\n# config/{config}.yaml; by benchmarks/against_cvnets.py.\n"
        )
        (folder / f"{part}.txt").write_text(head + "".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--keys", type=Path)
    given = parser.parse_args()
    sys.path.insert(0, str(given.folder))
    sys.meta_path.insert(0, _Stubs())
    asked = ["git", "-C", str(given.folder), "rev-parse", "HEAD"]
    commit = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    print(f"torch {torch.__version__}, CVNets {commit[:7]}")
    for name, configs in CONFIGS.items():
        for config in configs:
            for width in WIDTHS:
                torch.manual_seed(0)
                model = theirs(given.folder, config, width)
                if given.keys and config == configs[0] and width == 1.0:
                    write_keys(given.keys, name, config, model.state_dict(), commit)
                print(f"{config}, width {width}: {difference(name, model, 256):.1e}", flush=True)


if __name__ == "__main__":
    main()
