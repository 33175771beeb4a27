"""``edgeattn doctor``: what works on this machine."""

from typing import Annotated

import typer

from edgeattn.cli import console


def doctor(
    quick: Annotated[bool, typer.Option("--quick", help="Only list what is installed; run nothing.")] = False,
    json: console.Json = False,
) -> int:
    """Check which formats, runtimes and targets work on this machine, and how to fix the others.

    A small layer is converted, run and compared with the reference. A missing package is listed, and is no failure.
    Exit 1 if something is installed and does not work.

    Example: edgeattn doctor --quick
    """
    console.use_json(json)
    from rich.markup import escape

    from edgeattn.cli import doctor as checks
    from edgeattn.setups import SETUPS
    from edgeattn.system.versions import versions

    with console.progress() as progress:
        findings = checks.installed() if quick else checks.examine(progress)
    states: dict[str, dict[str, str]] = {"formats": {}, "runtimes": {}, "targets": {}}
    for finding in findings:
        states[finding.kind][finding.name] = f"{finding.state} ({finding.caveat})" if finding.caveat else finding.state
    states["targets"]["phone"] = SETUPS.get("phone").missing() or "ready (any phone's browser: edgeattn phone)"
    broken = any(finding.broken for finding in findings)
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
