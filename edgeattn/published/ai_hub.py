"""Qualcomm's figures for relatives of MobileViTv2, where the user has installed ``qai-hub-models`` (BSD-3-Clause).

The package has a ``perf.yaml`` for each model: times by precision, component, device and runtime. It is read where it
lies, and never imported: it would import torch. These files have no date; the package's version stands for it.
"""

from collections.abc import Iterator
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from edgeattn.errors import ArtifactError, MissingError
from edgeattn.published.figures import Published

PACKAGE = "qai-hub-models"
# Its models that mix convolutions with attention, or with linear attention, for phones: folder and name.
RELATIVES = {
    "mobile_vit": "MobileViT",
    "efficientvit_b2_cls": "EfficientViT-B2",
    "levit": "LeViT",
    "efficientformer": "EfficientFormer",
}
# Of its runtimes, those of formats that edgeattn makes too.
RUNTIMES = ("tflite", "onnx")


def figures() -> tuple[Published, ...]:
    """The times of all relatives that the installed package has.

    Raises:
        ArtifactError: a file of it is damaged.
        MissingError: it, or PyYAML, is not installed.
    """
    try:
        package = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError as error:
        raise MissingError(f"{PACKAGE} is not installed; install it with: pip install --no-deps {PACKAGE}") from error
    try:
        yaml = import_module("yaml")
    except ImportError as error:
        raise MissingError(f"PyYAML, which reads {PACKAGE}, is not installed; pip install pyyaml") from error
    found: list[Published] = []
    for folder, name in RELATIVES.items():
        path = Path(str(package.locate_file(f"qai_hub_models/models/{folder}/perf.yaml")))
        if not path.is_file():  # another version may lack the model
            continue
        try:
            found += _read(yaml.safe_load(path.read_text(encoding="utf-8")), name, folder, package.version)
        except (yaml.YAMLError, OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtifactError(f"{path} is no file of Qualcomm's times; install {PACKAGE} again") from error
    return tuple(found)


def _read(content: Any, name: str, folder: str, version: str) -> Iterator[Published]:
    for precision, measured in content["precisions"].items():
        for devices in measured["components"].values():
            for device, runtimes in devices["performance_metrics"].items():
                for runtime, run in runtimes.items():
                    # A job that failed has no time.
                    if runtime in RUNTIMES and run.get("job_status") == "Passed":
                        yield Published(
                            model=name,
                            runtime=f"{runtime}, {run['primary_compute_unit']}",
                            precision=precision,
                            device=device,
                            milliseconds=float(run["inference_time_milliseconds"]),
                            source=f"{PACKAGE} {version}",
                            date="",
                            url=f"https://aihub.qualcomm.com/models/{folder}",
                        )
