"""Checkpoints by their hub name, ``ORGANISATION/NAME`` or ``ORGANISATION/NAME@REVISION``, through huggingface_hub.

No other module of an export uses the network. A cached checkpoint needs none.
"""

import re
from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.system import plugins
from edgeattn.system.output import quiet

# File names of checkpoints that transformers saves, and suffixes of weights files.
FILES = ("model.safetensors", "pytorch_model.bin")
SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt")
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")


def is_name(text: str) -> bool:
    """Whether ``text`` can be a hub name and is no file or folder here."""
    return bool(_NAME.fullmatch(text)) and not Path(text).exists() and Path(text).suffix not in SUFFIXES


def fetch(name: str) -> Path:
    """The checkpoint's weights file in the local cache, downloaded if need be.

    Raises:
        MissingError: huggingface_hub is not installed.
        BadInputError: there is no such checkpoint, no weights file in it, or no network.
    """
    plugins.require("huggingface_hub", extra="hub")
    match = _NAME.fullmatch(name)
    assert match is not None
    import huggingface_hub
    from huggingface_hub import errors

    for file in FILES:
        try:
            with quiet():
                return Path(huggingface_hub.hf_hub_download(match[1], file, revision=match[2]))
        except errors.RemoteEntryNotFoundError:
            continue
        except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
            raise BadInputError(f"the hub has no checkpoint {name}, or it is private") from error
        except (errors.HfHubHTTPError, errors.LocalEntryNotFoundError, errors.HFValidationError, OSError) as error:
            raise BadInputError(
                f"{name} is no file here, and the hub cannot be reached for it; download the checkpoint elsewhere "
                "and give its folder"
            ) from error
    raise BadInputError(f"the hub's {name} holds neither {' nor '.join(FILES)}")
