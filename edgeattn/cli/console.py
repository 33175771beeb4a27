"""What the commands share: options, the one JSON document or the tables, and progress."""

import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edgeattn.system.progress import Progress

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document to stdout, and nothing else there.")]
TARGET = "NAME[:ADDRESS]"
Cpu = Annotated[str | None, typer.Option(help="emulated-arm: cortex-a53, cortex-a76, neoverse-n1 or max.")]
Cores = Annotated[
    str | None, typer.Option(metavar="LIST|MASK", help="android, ssh: pin the run to these cores: 4-7, 0,4 or 0xf0.")
]
Python = Annotated[str | None, typer.Option(metavar="PATH", help="ssh: the board's Python; python3 if not said.")]
Install = Annotated[
    bool, typer.Option("--install", help="ssh: install the runtimes that the board lacks, in a folder of its caches.")
]
INTERRUPTED = 130


@dataclass
class Answer:
    """How this run of the command answers, and whether it has said what came of it, an interrupt too."""

    json: bool
    given: bool = False


_answer: ContextVar[Answer] = ContextVar("answer")


def begin(*, json: bool) -> Answer:
    """The answer of a run that begins; :func:`show` and :func:`fail` give it."""
    answer = Answer(json)
    _answer.set(answer)
    return answer


def wants(json: bool) -> None:
    """Say what :func:`show` prints, once the options are read."""
    _answer.get().json = json


def settings(**given: str | None) -> dict[str, str]:
    """The settings of a target that were given; the target itself says which it takes."""
    return {name: value for name, value in given.items() if value is not None}


def typed() -> str:
    """The command as it was typed, for the records."""
    return shlex.join(["edgeattn", *sys.argv[1:]])


def show(document: Any, lines: Callable[[], list[Any]]) -> None:
    """One JSON document, or what ``lines`` makes, to stdout."""
    answer = _answer.get()
    answer.given = True
    if answer.json:
        from pydantic_core import to_json

        sys.stdout.write(to_json(document, indent=2, inf_nan_mode="null").decode() + "\n")
        return
    from rich.console import Console

    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200, soft_wrap=True)
    for line in lines():
        console.print(line)
        console.print()


def fail(sentence: str, code: int) -> int:
    """One sentence to stderr, and to stdout as JSON if that is wanted; the exit code."""
    from edgeattn.interface.tables import printable

    answer = _answer.get()
    answer.given = True
    sys.stderr.write(f"edgeattn: {printable(' '.join(sentence.split()))}\n")
    if answer.json:
        show({"error": sentence, "exit_code": code}, list)
    return code


@contextmanager
def progress() -> "Iterator[Progress]":
    """What is being done, on stderr, on a terminal only."""
    from edgeattn.system.progress import silent

    if not sys.stderr.isatty():
        yield silent
        return
    from edgeattn.cli import bar as _bar

    with _bar.shown() as progress:
        yield progress
