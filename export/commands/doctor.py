"""``edgeattn doctor``: what works here."""

from edgeattn.errors import MissingError
from export.commands import _console as console


def doctor(json: console.Json = False) -> int:
    """Say for every format, runtime and target whether it works here, and what would mend it.

    Example: edgeattn doctor
    """
    console.wants(json)
    from export import plugins, runtimes
    from export.pipeline import versions

    found: dict[str, dict[str, str]] = {"formats": {}, "runtimes": {}, "targets": {}}
    for name in plugins.names("formats"):
        format_ = plugins.get("formats", name)
        try:
            plugins.require(*format_.PACKAGES, extra=format_.EXTRA)
            found["formats"][name] = "ready"
        except MissingError as error:
            found["formats"][name] = str(error)
    for name in plugins.names("runtimes"):
        found["runtimes"][name] = runtimes.missing(plugins.get("runtimes", name)) or "ready"
    for name in plugins.names("targets"):
        target = plugins.get("targets", name)
        caveat = getattr(target, "CAVEAT", "")
        state = target.unavailable() or "ready"
        found["targets"][name.replace("_", "-")] = f"{state} ({caveat})" if caveat else state
    tools = versions()
    console.show(
        {**found, "versions": tools},
        lambda: [
            *(f"{kind[:-1]} [bold]{name}[/]: {state}" for kind in found for name, state in found[kind].items()),
            "versions: " + ", ".join(f"{k} {v}" for k, v in tools.items()),
        ],
    )
    return 0
