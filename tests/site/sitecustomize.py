"""Imported by every Python that starts with this folder on PYTHONPATH: torchvision can be imported beside a CPU torch.

As :mod:`benchmarks.real_timm` says; the operators are declared when torchvision is imported, and not before, so that
nothing heavy is imported at the start.
"""

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

REAL_TIMM = Path(__file__).parent.parent.parent / "benchmarks/real_timm.py"


class Declaring:
    """Finds torchvision, with the declaration before its own code."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path, target) if name == "torchvision" else None
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def declared(module: ModuleType) -> None:
            declare()
            execute(module)

        vars(spec.loader)["exec_module"] = declared
        return spec


def declare() -> None:
    spec = spec_from_file_location("edgeattn_real_timm", REAL_TIMM)
    assert spec is not None
    assert spec.loader is not None
    real_timm = sys.modules[spec.name] = module_from_spec(spec)  # kept, as the operators last as long as it does
    spec.loader.exec_module(real_timm)
    real_timm.declare_operators()


sys.meta_path.insert(0, Declaring())
