"""An .aimodel on disk: a folder with a program in MLIR's bytecode, its hash, and metadata as JSON."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from edgeattn.formats.aimodel.program import Program
from edgeattn.system.files import opened, read
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

# What edgeattn was made and tested with: Core AI is a beta, and its bindings change from one to the next.
VERSIONS = {"coreai-core": "1.0.0b3", "coreai-opt": "0.3.0", "coreai-torch": "0.4.3"}
_PROGRAM, _HASH, _METADATA = "main.mlirb", "main.hash", "metadata.json"
_OWN, _DATE = "creatorDefinedMetadata", "creationDate"


def reason(error: BaseException) -> str:
    """The first line of an error, and, where another version of Core AI may be its cause, which one is wanted."""
    others = {name: found for name, known in VERSIONS.items() if (found := _installed(name)) not in (None, known)}
    if not others:
        return first_line(error)
    found = ", ".join(f"{name} {version}" for name, version in others.items())
    wanted = ", ".join(VERSIONS[name] for name in others)
    return f"{first_line(error)} (here is {found}, and edgeattn knows {wanted}: pip install 'edgeattn[coreai]')"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def load(path: Path) -> Program:
    """The program of an asset; all errors are the caller's to name.

    Raises:
        OSError: a file is missing.
        ValueError: the program is not the one that was saved.
        Exception: of any kind, by Apple's own reader.
    """
    check(path)
    with quiet():
        from coreai.authoring import AIModelAsset

        return Program(AIModelAsset.load(path).program)


def check(path: Path) -> None:
    """Raise ValueError if the program has another hash than the asset says, or OSError if a file is missing: Apple's
    own reader asks for neither, and reads what it can."""
    with opened(path / _PROGRAM) as file:
        found = hashlib.file_digest(file, "sha256").digest()
    if found != read(path / _HASH):
        raise ValueError(f"{_PROGRAM} is not what was saved: its hash is not the one in {_HASH}")


def own_metadata(path: Path) -> dict[str, str]:
    """The asset's own texts by their names, which tools and users add."""
    texts = json.loads(read(path / _METADATA)).get(_OWN, {})
    return {name: str(value) for name, value in sorted(texts.items())}


def save(program: Program, path: Path, texts: Mapping[str, str]) -> None:
    """Write an asset; the same program and texts give the same bytes."""
    from coreai.authoring import OSVersion

    program.normalise()
    program.vendors.save_asset(path, minimum_os=OSVersion.v27)
    # Their JSON has the date, and its keys in no order.
    document = json.loads((path / _METADATA).read_text())
    document.pop(_DATE, None)
    document |= {_OWN: dict(texts)} if texts else {}
    (path / _METADATA).write_text(json.dumps(document, indent=2, sort_keys=True) + "\n")


def remove(path: Path) -> None:
    """Delete what was written of an asset."""
    shutil.rmtree(path, ignore_errors=True)
