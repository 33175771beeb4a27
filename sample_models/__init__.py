"""Models that come with edgeattn: every module of this package with a ``build`` function is one, by its file name.

Imported as ``edgeattn.sample_models``. ``bundle`` and the rooms above may import it.
"""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from typing import Any

from edgeattn.errors import BadInputError


def names() -> list[str]:
    """The sample models, sorted."""
    return sorted(info.name for info in pkgutil.iter_modules(__path__) if not info.name.startswith("_"))


def factory(name: str) -> Callable[..., Any]:
    """The ``build`` function of the sample model ``name``: arguments -> (module, example inputs)."""
    if name not in names():
        raise BadInputError(
            f"there is no sample model {name!r}; choose from {', '.join(names())}, or give FILE.py:FACTORY"
        )
    build: Callable[..., Any] = import_module(f"edgeattn.sample_models.{name}").build
    return build


def recognise(name: str, state: dict[str, Any]) -> Any:
    """A checkpoint of somebody else's for the sample model ``name`` (a ``Checkpoint``), or None."""
    if name not in names():
        return None
    recognise_checkpoint = vars(import_module(f"edgeattn.sample_models.{name}")).get("recognise_checkpoint")
    return recognise_checkpoint(state) if recognise_checkpoint else None
