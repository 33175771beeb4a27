"""``edgeattn models``: the sample models."""

from typing import Any

from edgeattn.cli import console


def models(json: console.Json = False) -> int:
    """List the sample models and their arguments.

    Example: edgeattn models
    """
    console.use_json(json)
    import inspect as python_inspect

    from edgeattn.sample_models import MODELS

    entries: dict[str, dict[str, Any]] = {}
    for name, model in MODELS.items():
        arguments = {p.name: p.default for p in python_inspect.signature(model.build).parameters.values()}
        entries[name] = {"about": (python_inspect.getdoc(model.build) or "").split("\n\n")[0], "arguments": arguments}
    console.show(
        entries,
        lambda: [
            f"[bold]{name}[/]  {entry['about']}\n  " + "  ".join(f"{k}={v}" for k, v in entry["arguments"].items())
            for name, entry in entries.items()
        ],
    )
    return 0
