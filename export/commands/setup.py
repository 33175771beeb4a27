"""``edgeattn setup``: what a target needs."""

from typing import Annotated

import typer

from export.commands import _console as console


def setup(
    target: Annotated[str, typer.Argument(help="emulated-arm, android or phone")],
    json: console.Json = False,
) -> int:
    """Build what a target needs, once, into the cache folder of the user.

    Example: edgeattn setup emulated-arm
    """
    console.wants(json)
    from edgeattn.errors import BadInputError
    from export import plugins
    from export.phone import setup as phone

    build = phone.build if target == "phone" else getattr(plugins.get("targets", target), "setup", None)
    if build is None:
        raise BadInputError(f"{target} needs no set-up")
    with console.progress() as say:
        folder = str(build(say))
    console.show({"target": target, "folder": folder}, lambda: [f"{target} is ready, in {folder}"])
    return 0
