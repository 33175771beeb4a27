"""The files that are served, by path, and no others: no path of a request ever reaches the disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeattn.phone import setup
from edgeattn.phone.plan import Plan

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    # Browsers refuse a module of any other type.
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".wasm": "application/wasm",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
}


@dataclass(frozen=True)
class File:
    """Content that is sent: bytes, or a file of this machine."""

    content: bytes | Path
    media_type: str = "application/octet-stream"
    compressed: bool = False


def files(plan: Plan, runtimes: Path, page: Mapping[str, object]) -> dict[str, File]:
    """The page, the runtimes with their licences, the artifacts, the inputs, and the plan as ``plan.json``.

    Args:
        runtimes: the folder that ``edgeattn setup phone`` made.
        page: what the page needs besides the plan.
    """
    served = {f"page/{path.name}": read(path) for path in setup.data("page").iterdir() if path.is_file()}
    served[""] = served.pop("page/index.html")
    del served["page/landing.html"], served["page/landing.js"]
    for name in setup.FILES:
        served[f"runtimes/{name}"] = File(runtimes / f"{name}.gz", _TYPES[Path(name).suffix], compressed=True)
    served |= {f"runtimes/licences/{path.name}": read(path) for path in (runtimes / "licences").iterdir()}
    for index, artifact in enumerate(plan.artifacts):
        served[f"artifacts/{index}"] = File(plan.bundle.path(artifact.file))
    served |= {path: File(np.ascontiguousarray(value).tobytes()) for path, value in plan.inputs()}
    document = {**plan.document(), **page}
    served["plan.json"] = File(json.dumps(document).encode(), "application/json")
    return served


def read(path: Path) -> File:
    """A small file, held in memory."""
    return File(path.read_bytes(), _TYPES[path.suffix])
