"""Calibration sets for int8: a folder of the user's, the model's own set, or scikit-learn's photographs."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeattn.bundle import pictures
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError, MissingError
from edgeattn.export import ranges
from edgeattn.export.source import Source
from edgeattn.parity import battery
from edgeattn.system.vendor_errors import first_line

# More inputs hardly change the ranges, and each one is run in every format.
LARGEST = 64
# The golden case that is taken from the calibration set.
CASE = "calibration"
_PHOTOGRAPHS, _CROPS = ("china.jpg", "flower.jpg"), 16


@dataclass(frozen=True)
class Calibration:
    """Inputs in the model's own layout, batch 1, by name; ``sha256`` is over their bytes.

    ``covers`` are the golden cases that resemble it. ``skipped`` are files that were left out, with the reason;
    ``warning`` says why the set may be a poor one; ``ranges`` are sentences on its values and the example's.
    """

    about: str
    inputs: tuple[dict[str, Tensor], ...]
    covers: tuple[str, ...]
    skipped: dict[str, str] = field(default_factory=dict)
    warning: str = ""
    ranges: tuple[str, ...] = ()

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for inputs in self.inputs:
            for name, value in inputs.items():
                digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
                digest.update(value.contiguous().numpy().tobytes())
        return digest.hexdigest()


def check(folder: Path | None) -> None:
    """Refuse early a folder that cannot be used.

    Raises:
        BadInputError: it is no folder, or holds neither images nor .npz files.
    """
    if folder is None:
        return
    if not folder.is_dir():
        raise BadInputError(f"--calibrate takes a folder of images or .npz files; {folder} is none")
    if not _files(folder):
        kinds = ", ".join(pictures.SUFFIXES)
        raise BadInputError(f"{folder} holds neither images ({kinds}) nor .npz files to calibrate on")


def choose(source: Source, folder: Path | None) -> Calibration:
    """The calibration set of ``source``: ``folder``, else its own set, else photographs and its example.

    Raises:
        BadInputError: nothing in the folder can be used, or its values are of another range than the model's.
        MissingError: Pillow, which reads images, or scikit-learn, which carries the photographs, is not installed.
    """
    if folder is not None:
        return ranges.checked(_from_folder(source, folder), source)
    if source.calibration is not None:
        chosen = _evenly_spaced(len(source.calibration))
        name = next(iter(source.inputs))
        inputs = tuple({name: source.calibration[i : i + 1]} for i in chosen)
        own = Calibration(
            f"{len(inputs)} of the {len(source.calibration)} that {source.name} brings", inputs, ("example", CASE)
        )
        return ranges.checked(own, source)
    return ranges.described(_photographs(source), source)


def _evenly_spaced(number: int) -> list[int]:
    return sorted({round(float(i)) for i in np.linspace(0, number - 1, min(number, LARGEST))})


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in (*pictures.SUFFIXES, ".npz"))


def _from_folder(source: Source, folder: Path) -> Calibration:
    inputs: list[dict[str, Tensor]] = []
    skipped: dict[str, str] = {}
    files = _files(folder)
    for file in files:
        if len(inputs) == LARGEST:
            break
        try:
            batch = list(_arrays(file, source)) if file.suffix == ".npz" else [_image(file, source)]
        except BadInputError as error:
            skipped[file.relative_to(folder).as_posix()] = str(error)
        else:
            inputs += batch
    if not inputs:
        name, reason = next(iter(skipped.items()))
        raise BadInputError(f"no file in {folder} can be used to calibrate; {name}: {reason}")
    used = tuple(inputs[:LARGEST])
    return Calibration(f"{len(used)} inputs of {folder.name}", used, (CASE,), skipped)


def _arrays(file: Path, source: Source) -> Iterator[dict[str, Tensor]]:
    """The inputs in an .npz file: arrays by the model's input names, one or many along the batch."""
    try:
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] for name in content.files}
    except Exception as error:
        raise BadInputError(f"it cannot be read: {first_line(error)}") from error
    if arrays.keys() != source.inputs.keys():
        raise BadInputError(f"it must hold {', '.join(source.inputs)}, not {', '.join(arrays)}")
    for name, example in source.inputs.items():
        value = arrays[name]
        if value.shape[1:] != example.shape[1:] or len(value) != len(next(iter(arrays.values()))):
            raise BadInputError(f"{name} has shape {list(value.shape)}, not the model's {list(example.shape)}")
        if value.dtype.kind not in "fiu" or not np.isfinite(value).all():
            raise BadInputError(f"{name} must hold finite numbers")
    for i in range(len(next(iter(arrays.values())))):
        yield {n: torch.from_numpy(arrays[n][i : i + 1]).to(x.dtype) for n, x in source.inputs.items()}


def _image(file: Path, source: Source) -> dict[str, Tensor]:
    """An image, preprocessed as the model expects it."""
    (name, example), *others = source.inputs.items()
    if others:
        raise BadInputError(f"the model takes {1 + len(others)} inputs, not one picture; calibrate it on .npz files")
    try:
        shape = pictures.check(tuple(example.shape))
    except BadInputError as error:
        raise BadInputError(f"{error}; calibrate it on .npz files") from error
    told = source.preprocessing or Preprocessing(mean=(0.5,), std=(0.5,))
    pixels = pictures.as_bytes(pictures.read(file), told, shape)
    if source.picture:
        return {name: torch.from_numpy(pixels)}
    return {name: torch.from_numpy(pictures.normalised(pixels, told).copy()).to(example.dtype)}


def _photographs(source: Source) -> Calibration:
    """Crops of scikit-learn's two photographs, of several sizes and positions, and the model's example."""
    if not (find_spec("sklearn") and find_spec("PIL")):
        raise MissingError.package("scikit-learn", extra="demo")
    from sklearn.datasets import load_sample_image

    taken = [n for n, x in source.inputs.items() if x.dim() == 4 and (x.is_floating_point() or n == source.picture)]
    if not taken:
        return Calibration(
            "the model's example, as no input is a map that a photograph fits",
            (dict(source.inputs),),
            ("example",),
            warning="int8 was calibrated on the model's example alone, which is one input; give your own with "
            "--calibrate DIR",
        )
    random = np.random.default_rng(battery.SEED)
    images = [load_sample_image(name) for name in _PHOTOGRAPHS]
    inputs = [dict(source.inputs)]
    for number in range(_CROPS):
        image = images[number % len(images)]
        # The first crop of each photograph is as large as possible, the others are smaller.
        share = 1.0 if number < len(images) else random.uniform(0.5, 1)
        side = int(share * min(image.shape[:2]))
        top, left = ((n - side) // 2 if share == 1 else int(random.integers(0, n - side + 1)) for n in image.shape[:2])
        crop = image[top : top + side, left : left + side]
        values: dict[str, Any] = {}
        for name, example in source.inputs.items():
            if name in taken:
                limits = (0.0, 255.0) if name == source.picture else ranges.of_pixels(source, example)
                value = battery.photograph(crop, tuple(example.shape), example.detach().numpy().dtype, limits)
                values[name] = example if value is None else torch.from_numpy(value.copy())
            else:
                values[name] = example
        inputs.append(values)
    kept = [name for name in source.inputs if name not in taken]
    others = f"; {', '.join(kept)} always as in the example" if kept else ""
    return Calibration(
        f"{_CROPS} crops of scikit-learn's {' and '.join(_PHOTOGRAPHS)}, and the model's example{others}",
        tuple(inputs),
        ("example", "photograph", CASE),
        warning="int8 was calibrated on two photographs, which are few; give your own with --calibrate DIR",
    )
