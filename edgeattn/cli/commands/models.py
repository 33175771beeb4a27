"""``edgeattn models``: the sample models."""

from typing import Any

from edgeattn.cli import console


def models(json: console.Json = False) -> int:
    """List the sample models and their arguments.

    Example: edgeattn models
    """
    console.wants(json)
    import inspect as python_inspect

    from edgeattn import sample_models

    found: dict[str, dict[str, Any]] = {}
    for name in sample_models.names():
        build = sample_models.factory(name)
        arguments = {p.name: p.default for p in python_inspect.signature(build).parameters.values()}
        found[name] = {"about": (python_inspect.getdoc(build) or "").split("\n\n")[0], "arguments": arguments}
    console.show(
        found,
        lambda: [
            f"[bold]{name}[/]  {entry['about']}\n  " + "  ".join(f"{k}={v}" for k, v in entry["arguments"].items())
            for name, entry in found.items()
        ],
    )
    return 0
