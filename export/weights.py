"""Reads weights from a file without running any code in it."""

import argparse
import datetime
import pathlib
import pickle
import re
import types
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export import hub, wrappers
from edgeattn.system.vendor_errors import first_line


def load_weights(
    module: nn.Module, state: dict[str, Tensor], path: Path | None, *, partial: bool = False
) -> tuple[str, ...]:
    """Load ``state``, which came from ``path``, strictly; only BatchNorm's counters may be missing.

    With ``partial`` other tensors may be missing too, of another shape, or too many: those of the module stay as they
    are. Returns sentences that say which.

    Raises:
        BadInputError: the tensors are not the module's, or have NaN values.
    """
    expected = module.state_dict()
    state = wrappers.fitted(wrappers.put_back(state, expected), expected, path)
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    missing = [key for key in missing if not key.endswith(".num_batches_tracked")]
    other = [key for key in sorted(state.keys() & expected.keys()) if expected[key].shape != state[key].shape]
    none = not (state.keys() & expected.keys()) - set(other)
    if (missing or extra) and (none or not partial):
        wrappers.refuse_two(state, path)
        differences = "; ".join(_listed(("missing", missing), ("extra", extra)))
        hint = "" if none else "; --partial loads the others"
        raise BadInputError(f"the weights in {path} are not of this model: {differences}{hint}")
    if other and not partial:
        key = other[0]
        raise BadInputError(
            f"{key} in {path} has shape {list(state[key].shape)}, but the model needs {list(expected[key].shape)}; "
            "--partial leaves it as it is"
        )
    loaded = {key: value for key, value in state.items() if key in expected and key not in other}
    for key, value in loaded.items():
        if expected[key].is_floating_point() and not value.is_floating_point():
            kind = str(value.dtype).removeprefix("torch.")
            raise BadInputError(f"{key} in {path} is {kind}, and the model needs floats: save them in float")
        if value.is_floating_point() and bool(value.float().isnan().any()):  # not all types have isnan
            raise BadInputError(f"{key} in {path} has NaN values: no file can be compared with such a model")
    module.load_state_dict({**expected, **loaded})
    parts = _listed(("not in the file", missing), ("of another shape there", other), ("there too many", extra), most=12)
    return (f"only a part of {path} was loaded; {'; '.join(parts)}",) if parts else ()


def _listed(*kinds: tuple[str, list[str]], most: int = 3) -> list[str]:
    return [
        f"{what} {', '.join(keys[:most])}{f' and {len(keys) - most} more' if len(keys) > most else ''}"
        for what, keys in kinds
        if keys
    ]


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file, by name: .safetensors, a torch file without running any pickled code, or a
    folder as transformers saves it. What training wraps around them is taken off, and said on stderr."""
    if path.is_dir():
        weights_files = [path / name for name in hub.FILES if (path / name).is_file()]
        if not weights_files:
            raise BadInputError(f"{path} holds neither {' nor '.join(hub.FILES)}")
        path = weights_files[0]
    if not path.is_file():
        raise BadInputError(f"there is no weights file {path}")
    # Many trainers write `.pth.tar`, and some no ending at all; neither is an archive.
    if path.suffix not in hub.SUFFIXES and path.suffix and not path.name.endswith((".pth.tar", ".pt.tar")):
        raise BadInputError(f"{path} is no weights file; give a .safetensors, .pt, .pth, .bin or .ckpt file")
    from safetensors.torch import load_file

    _refuse_archives(path)
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            with torch.serialization.safe_globals(_plain_objects()):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInputError(
            f"{path} holds pickled code or is damaged and was not loaded{_named_in(error)}; save a plain state_dict"
        ) from error
    except Exception as error:  # torch's unpickler raises anything on a damaged file
        raise BadInputError(f"{path} cannot be read as weights: {first_line(error)}") from error
    return wrappers.take_off(found, path)


def _plain_objects() -> list[Any]:
    """What stands beside the tensors in many checkpoints, and runs nothing when it is read: numbers of numpy and its
    arrays, the options of a command line, paths and dates."""
    import numpy as np

    multiarray = np.zeros(0).__reduce__()[0]
    scalar = np.float64(0).__reduce__()[0]
    integers = [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
    kinds = [type(np.dtype(name)) for name in ("bool", *integers, "float16", "float32", "float64")]
    # As they were named before numpy 2.
    older = [(multiarray, "numpy.core.multiarray._reconstruct"), (scalar, "numpy.core.multiarray.scalar")]
    settings = [argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.PurePosixPath, datetime.datetime]
    return [multiarray, scalar, np.ndarray, np.dtype, *settings, *kinds, *older]


def _named_in(error: BaseException) -> str:
    """The class or function that was refused, where torch names it."""
    match = re.search(r"GLOBAL ([\w.]{1,100})", str(error))
    return f" (it names {match[1]})" if match else ""


def _refuse_archives(path: Path) -> None:
    """torch.save never compresses. A compressed zip is another tool's, and could unpack to a huge size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise BadInputError(f"{path} is TorchScript: save the state_dict of the module that it was made from")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise BadInputError(f"{path} is a compressed zip, which torch.save does not write; it was not loaded")
