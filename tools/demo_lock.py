"""requirements-demo.txt: of requirements.txt, what `make demo` needs. `python tools/demo_lock.py`, as `make lock` does,
out of the environment that it runs in."""

import re
from pathlib import Path

from licences import closure
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
WHOLE, DEMO = ROOT / "requirements.txt", ROOT / "requirements-demo.txt"
EXTRAS = {"", "onnx", "tflite", "coreml", "demo", "report"}
# Builds edgeattn itself.
BUILD = {"setuptools"}
HEAD = "# Made by tools/demo_lock.py, out of requirements.txt.\n"


def lock() -> str:
    """The blocks of the whole lock, each a package with its hashes, that the extras of the demo lead to."""
    needed = closure(EXTRAS) | BUILD
    blocks = re.findall(r"(?m)^[A-Za-z0-9].*\n(?: .*\n)*", WHOLE.read_text())
    return HEAD + "".join(b for b in blocks if canonicalize_name(re.split(r"[=\[; ]", b)[0]) in needed)


if __name__ == "__main__":
    DEMO.write_text(lock())
