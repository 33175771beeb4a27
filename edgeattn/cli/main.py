"""The ``edgeattn`` command, the only module that exits. ``edgeattn/cli/commands`` has the commands, one file each."""

import locale
import os
import signal
import sys
from importlib import import_module
from typing import Annotated

import typer

from edgeattn.cli import apart as processes
from edgeattn.cli import console, streams
from edgeattn.errors import EdgeAttnError
from edgeattn.system import plugins, signals

app = typer.Typer(
    add_completion=True,
    epilog="Begin with: edgeattn export attention --out b, then edgeattn parity b; or edgeattn doctor.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
# The order of the commands in the help; a command that is not named here comes last.
_ORDER = (
    *("export", "run", "inspect", "parity", "compare", "profile", "phone", "report", "snippet", "study", "setup"),
    *("models", "doctor"),
)


def _commands() -> list[str]:
    names = plugins.modules("edgeattn.cli.commands")
    return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))


for _name in _commands():
    app.command(_name)(vars(import_module(f"edgeattn.cli.commands.{_name}"))[_name])


def _version(requested: bool) -> None:
    if not requested:
        return
    import platform

    from edgeattn.system.versions import versions

    installed = {**versions(), "Python": platform.python_version(), "system": platform.platform()}
    print("\n".join(f"{name} {version}" for name, version in installed.items()))
    raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Show the versions of edgeattn and its packages."
        ),
    ] = False,
) -> None:
    """Separable self-attention from PyTorch to a phone: exported, checked against its reference, and measured."""


def _end_as_by_ctrl_c() -> None:
    """SIGTERM (a CI that cancels) and SIGHUP (a terminal that is closed): what Ctrl-C keeps and ends is kept and ended.

    One that is ignored already, as `nohup` does, stays so.
    """
    for number in signals.ENDS:
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, signal.default_int_handler)


def main(*, apart: bool = False) -> None:
    """Run the command; every expected error becomes one sentence on stderr and an exit code.

    Args:
        apart: run a command that runs a user's code in a process of its own.
    """
    output = console.begin(json="--json" in sys.argv)  # a guess, until the options are parsed
    _end_as_by_ctrl_c()
    try:
        streams.begin()
        if apart and processes.concerns(sys.argv[1:]):
            code = processes.run(sys.argv[1:])
            output.done = True
        else:
            code = app(standalone_mode=False)
        with streams.writing():
            pass  # what typer itself has printed
        # Typer returns this exit code on an interrupt; a command that saved something has printed that itself.
        if code == console.INTERRUPTED and not output.done:
            raise KeyboardInterrupt
    except EdgeAttnError as error:
        code = console.fail(str(error), error.exit_code)
    except typer.TyperException as error:
        code = console.fail(error.format_message() or "say what to do; see edgeattn --help", 2)
    except SystemExit:  # typer's help, whose reader has enough
        streams.drop()
        code = 0
    except OSError as error:
        # Files and disks may disappear or fill up at any time after the checks.
        what = (
            f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error.strerror or str(error)
        )
        code = console.fail(f"the system refuses {what}", 2)
        streams.drop()  # where stdout is what it refuses
    except (KeyboardInterrupt, typer.Abort):
        code = console.fail("interrupted; nothing was written", console.INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def entry() -> None:
    """The installed command. Where the locale has no Unicode, it starts again in Python's UTF-8 mode: ExecuTorch, which
    coremltools imports too, reads its own files in the locale's encoding."""
    plain = locale.getencoding().lower().replace("-", "") not in ("utf8", "cp65001")
    if plain and os.name == "posix" and not sys.flags.utf8_mode:
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    main(apart=True)


if __name__ == "__main__":
    entry()
