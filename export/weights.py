"""Reads weights from a file without running any code in it."""

import pickle
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeattn.errors import BadInputError
from edgeattn.export import hub, wrappers
from edgeattn.system.vendor_errors import first_line


def load_weights(module: nn.Module, state: dict[str, Tensor], path: Path | None) -> None:
    """Load ``state``, which came from ``path``, strictly; only BatchNorm's counters may be missing."""
    expected = module.state_dict()
    state = wrappers.put_back(state, expected)
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    missing = [key for key in missing if not key.endswith(".num_batches_tracked")]
    if missing or extra:
        wrappers.refuse_two(state, path)
        differences = [
            f"{what} {', '.join(keys[:3])}" for what, keys in (("missing", missing), ("extra", extra)) if keys
        ]
        raise BadInputError(f"the weights in {path} are not of this model: {'; '.join(differences)}")
    for key, value in sorted(state.items()):
        if expected[key].shape != value.shape:
            raise BadInputError(
                f"{key} in {path} has shape {list(value.shape)}, but the model needs {list(expected[key].shape)}"
            )
    module.load_state_dict({**expected, **state})


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
    if path.suffix not in hub.SUFFIXES:
        raise BadInputError(f"{path} is no weights file; give a .safetensors, .pt, .pth, .bin or .ckpt file")
    from safetensors.torch import load_file

    _refuse_compressed(path)
    try:
        if path.suffix == ".safetensors":
            found: object = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadInputError(
            f"{path} holds pickled code or is damaged and was not loaded; save a plain state_dict"
        ) from error
    except Exception as error:  # torch's unpickler raises anything on a damaged file
        raise BadInputError(f"{path} cannot be read as weights: {first_line(error)}") from error
    return wrappers.take_off(found, path)


def _refuse_compressed(path: Path) -> None:
    """torch.save never compresses. A compressed zip is another tool's, and could unpack to a huge size."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise BadInputError(f"{path} is a compressed zip, which torch.save does not write; it was not loaded")
