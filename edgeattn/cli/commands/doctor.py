"""``edgeattn doctor``: what works here."""

from typing import Annotated

import typer

from edgeattn.cli import console


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Progress what is installed, and try nothing.")] = False,
    json: console.Json = False,
) -> int:
    """Say for every format, runtime and target whether it works here, by trying it, and what would mend it.

    A small layer is converted, run and compared with the reference. What is not installed is said and is no failure;
    exit code 1 if something is installed and does not work.

    Example: edgeattn doctor --quick
    """
    console.wants(json)
    from rich.markup import escape

    from edgeattn.cli import doctor as doctors
    from edgeattn.setups import SETUPS
    from edgeattn.system.versions import versions

    with console.progress() as progress:
        found = doctors.look() if quick else doctors.examine(progress)
    states: dict[str, dict[str, str]] = {"formats": {}, "runtimes": {}, "targets": {}}
    for one in found:
        states[one.kind][one.name] = f"{one.state} ({one.caveat})" if one.caveat else one.state
    states["targets"]["phone"] = SETUPS.get("phone").missing() or "ready (any phone's browser: edgeattn phone)"
    broken = any(one.broken for one in found)
    tools = versions()
    console.show(
        {"passed": not broken, **states, "versions": tools},
        lambda: [
            *(
                "\n".join(f"{kind[:-1]} [bold]{name}[/]: {escape(state)}" for name, state in states[kind].items())
                for kind in states
            ),
            "versions: " + ", ".join(f"{name} {version}" for name, version in tools.items()),
        ],
    )
    return 1 if broken else 0
