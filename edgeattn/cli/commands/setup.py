"""``edgeattn setup``: what is built or fetched once."""

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
    """Build what a target or the phone's page needs, once, into the cache folder of the user.

    Example: edgeattn setup emulated-arm
    """
    console.wants(json)
    from edgeattn.errors import BadInputError
    from edgeattn.targets import TARGETS

    name = target.replace("-", "_")
    if name in set(TARGETS.names) - set(SETUPS.names):
        raise BadInputError(f"{target} needs no set-up; choose from {_NAMES}")
    what = SETUPS.get(target)
    with console.progress() as progress:
        folder = str(what.build(progress))
    console.show({"target": target, "folder": folder}, lambda: [f"{target} is ready, in {folder}: {what.about}"])
    return 0
