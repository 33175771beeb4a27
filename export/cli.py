"""The ``edgeattn`` command: the only place that exits. The commands stand in ``export/commands``, one file each."""

import sys
from typing import Any

import typer

from edgeattn.errors import EdgeAttnError
from export import plugins
from export.commands import _console

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    help="Separable self-attention from PyTorch to ONNX, TFLite and Core ML, checked against its reference.",
    pretty_exceptions_enable=False,
)
# In the order in which one meets them; one that is not named here comes last.
_ORDER = ("export", "inspect", "parity", "compare", "profile", "report", "setup", "models", "doctor")
# What typer raises for bad usage; its home moves between versions of typer, its place above BadParameter does not.
_UsageError: Any = typer.BadParameter.__mro__[2]


def _commands() -> list[str]:
    found = plugins.names("commands")
    return sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


for _name in _commands():
    app.command(_name)(getattr(plugins.get("commands", _name), _name))


def main() -> None:
    """Run the command; every expected error is one sentence on stderr and its exit code."""
    _console.wants("--json" in sys.argv)
    try:
        code = app(standalone_mode=False)
    except EdgeAttnError as error:
        code = _console.fail(str(error), error.exit_code)
    except _UsageError as error:
        code = _console.fail(error.format_message() or "say what to do; see edgeattn --help", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _console.fail("interrupted; nothing was written", 130)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
