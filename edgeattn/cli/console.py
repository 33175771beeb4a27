"""Shared by all commands: options, output as one JSON document or as tables, errors and progress."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeattn.cli import streams
from edgeattn.errors import BadInputError
from edgeattn.system.foreign import escaped

if TYPE_CHECKING:
    from edgeattn.system.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout, and nothing else.")]
TARGET = "NAME[:ADDRESS]"
Cpu = Annotated[str | None, typer.Option(help="emulated-arm: the core: cortex-a53, cortex-a76, neoverse-n1 or max.")]
Cores = Annotated[
    str | None, typer.Option(metavar="LIST|MASK", help="android, ssh: run on these cores only: 4-7, 0,4 or 0xf0.")
]
GpuLibrary = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="android: your own GPU accelerator for LiteRT: its runtime is 'litert gpu'."),
]
Python = Annotated[str | None, typer.Option(metavar="PATH", help="ssh: the board's Python; default: python3.")]
Install = Annotated[
    bool, typer.Option("--install", help="ssh: install missing runtimes on the board, in its cache folder.")
]
Provider = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="onnxruntime: this execution provider, OpenVINOExecutionProvider, say."),
]
ProviderOption = Annotated[
    list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of --provider; repeatable.")
]
INTERRUPTED = 130


@dataclass
class Output:
    """The kind of output of this command, and whether a result or an error was printed (``done``)."""

    json: bool
    done: bool = False


_output: ContextVar[Output] = ContextVar("output")


def begin(*, json: bool) -> Output:
    """Begin a command, whose output :func:`show` and :func:`fail` print."""
    output = Output(json)
    _output.set(output)
    return output


def use_json(json: bool) -> None:
    """Choose the kind of output, once the options are parsed."""
    _output.get().json = json


def provider(name: str | None, options: list[str] | None) -> tuple[str, ...]:
    """The backend of an execution provider that the user chose, if one was."""
    if options and not name:
        raise typer.BadParameter("--provider-option needs --provider")
    for option in options or ():
        if not option.partition("=")[0] or "=" not in option or len(option.split()) != 1:
            raise typer.BadParameter(f"--provider-option is KEY=VALUE without spaces, not {option!r}")
    return (" ".join(["onnxruntime", name, *(options or ())]),) if name else ()


def settings(**options: str | None) -> dict[str, str]:
    """The settings of a target that the user gave; the target checks them."""
    return {name: value for name, value in options.items() if value is not None}


def command_line() -> str:
    """The command as the user typed it, for the records."""
    return shlex.join(["edgeattn", *sys.argv[1:]])


def show(document: Any, lines: Callable[[], list[Any]]) -> None:
    """Print one JSON document, or the tables and lines that ``lines`` returns, to stdout.

    Raises:
        BadInputError: stdout cannot be written to.
    """
    output = _output.get()
    output.done = True
    with streams.writing():
        if output.json:
            sys.stdout.write(escaped(streams.json(document) + "\n"))
            return
        from rich.console import Console

        from edgeattn.interface.tables import safe

        class Unbroken(Console):
            def on_broken_pipe(self) -> None:  # rich's own ends the process with 1, as if a check had failed
                raise BrokenPipeError

        console = Unbroken(highlight=False, width=None if sys.stdout.isatty() else 200, soft_wrap=True)
        for line in lines():
            console.print(safe(line))
            console.print()


def fail(sentence: str, code: int) -> int:
    """Print an error sentence to stderr, and as JSON to stdout with --json; return the exit code."""
    from edgeattn.interface.tables import printable

    output = _output.get()
    output.done = True
    # Where not even this can be said, the exit code says it.
    with suppress(OSError):
        sys.stderr.write(f"edgeattn: {printable(' '.join(sentence.split()))}\n")
    if output.json:
        with suppress(BadInputError):
            show({"error": sentence, "exit_code": code}, list)
    return code


@contextmanager
def progress() -> "Iterator[Progress]":
    """A progress bar on stderr, if that is a terminal."""
    from edgeattn.system.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from edgeattn.cli import bar

    with bar.shown() as progress:
        yield progress
