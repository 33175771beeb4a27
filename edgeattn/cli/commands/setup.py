"""``edgeattn setup``: builds or downloads what a target needs."""

from typing import Annotated

import typer

from edgeattn.cli import console
from edgeattn.setups import SETUPS
from edgeattn.system.plugins import spelled

_NAMES = ", ".join(map(spelled, SETUPS.names))


def setup(
    target: Annotated[str, typer.Argument(help=f"One of {_NAMES}.")],
    json: console.Json = False,
) -> int:
    """Build or download what a target needs, once, into your cache folder.

    Example: edgeattn setup emulated-arm
    """
    console.use_json(json)
    from edgeattn.errors import BadInputError
    from edgeattn.targets import TARGETS

    name = target.replace("-", "_")
    if name in set(TARGETS.names) - set(SETUPS.names):
        raise BadInputError(f"{target} needs no set-up; choose from {_NAMES}")
    plan = SETUPS.get(target)
    with console.progress() as progress:
        folder = str(plan.build(progress))
    console.show({"target": target, "folder": folder}, lambda: [f"{target} is ready, in {folder}: {plan.about}"])
    return 0
