"""The ``edgeattn`` command: the only place that exits. The commands stand in ``edgeattn/cli/commands``, one file
each."""

import sys
from importlib import import_module
from typing import Annotated

import typer

from edgeattn.cli import console as _console
from edgeattn.errors import EdgeAttnError
from edgeattn.system import plugins

app = typer.Typer(
    add_completion=True,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# In the order in which one meets them; one that is not named here comes last.
_ORDER = ("export", "inspect", "parity", "compare", "profile", "phone", "report", "study", "setup", "models", "doctor")


def _commands() -> list[str]:
    found = plugins.modules("edgeattn.cli.commands")
    return sorted(found, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


for _name in _commands():
    app.command(_name)(vars(import_module(f"edgeattn.cli.commands.{_name}"))[_name])


def _version(wanted: bool) -> None:
    if not wanted:
        return
    import platform

    from edgeattn.system.versions import versions

    found = {**versions(), "Python": platform.python_version(), "system": platform.platform()}
    print("\n".join(f"{name} {version}" for name, version in found.items()))
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Versions of what is installed.")
    ] = False,
) -> None:
    """Separable self-attention from PyTorch to ONNX, TFLite and Core ML, checked against its reference."""


def main() -> None:
    """Run the command; every expected error is one sentence on stderr and its exit code."""
    answer = _console.begin(json="--json" in sys.argv)  # as far as one can tell before the options are read
    try:
        code = app(standalone_mode=False)
        # Typer makes this exit code of an interrupt; a command that has kept something has said so itself.
        if code == _console.INTERRUPTED and not answer.given:
            raise KeyboardInterrupt
    except EdgeAttnError as error:
        code = _console.fail(str(error), error.exit_code)
    except typer.TyperException as error:
        code = _console.fail(error.format_message() or "say what to do; see edgeattn --help", 2)
    except OSError as error:
        # Files and folders may be taken away, filled or closed at any time, after every check.
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error)
        code = _console.fail(f"the system refuses {what}", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _console.fail("interrupted; nothing was written", _console.INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
