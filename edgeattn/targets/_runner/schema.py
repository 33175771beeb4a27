"""What a device may say: the types and bounds of its messages and results. It may be broken, or hostile."""

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, StringConstraints, TypeAdapter, ValidationError

from edgeattn.system.foreign import plain_name, sentence, shown

T = TypeVar("T")
# No run and no load takes 115 days; no device has a petabyte of memory.
MOST_NS, MOST_BYTES, MOST_COUNT = 10**16, 2**50, 10**9
# Of a result file: 20,000 operators of 200 characters each.
RESULT_BYTES = 2**22


def _name(text: str) -> str:
    if not plain_name(text):
        raise ValueError("it is empty, or holds control characters")
    return text


# Text for people is cut and made safe; what names a file or a tensor is taken as it is, or refused.
Text = Annotated[str, AfterValidator(sentence)]
Note = Annotated[str, AfterValidator(lambda text: sentence(text, 4000))]
Lines = Annotated[str, AfterValidator(lambda text: shown(text, keep="\n\t"))]
Name = Annotated[str, StringConstraints(max_length=4096), AfterValidator(_name)]
Texts = Annotated[dict[Text, Text], Field(max_length=500)]
Ns = Annotated[int, Field(strict=True, ge=0, le=MOST_NS)]
Count = Annotated[int, Field(strict=True, ge=0, le=MOST_COUNT)]
Row = tuple[Text, Text, Ns] | tuple[Text, Text, Ns, bool] | tuple[Text, Text, Ns, bool, Text]


@dataclass(frozen=True)
class Result:
    """``result.json`` of a runner (``worker.py``). ``runtime`` is "" before anything has been loaded."""

    error: Text = ""
    kind: Text = ""
    complete: bool = False
    runtime: Text = ""
    runtime_version: Text = ""
    outputs: Annotated[tuple[Name, ...], Field(max_length=1000)] = ()
    load_ns: Ns | None = None
    first_run_ns: Ns | None = None
    warmup: Count = 0
    warmup_ns: Ns | None = None
    settled: bool = True
    calls_per_sample: Annotated[int, Field(strict=True, ge=1, le=MOST_COUNT)] = 1
    clock_step_ns: Ns | None = None
    peak_memory_bytes: Annotated[int, Field(strict=True, ge=0, le=MOST_BYTES)] | None = None
    operators: Annotated[tuple[Row, ...], Field(max_length=100_000)] = ()
    operators_note: Note = ""

    def __post_init__(self) -> None:
        if self.runtime and self.load_ns is None:
            raise ValueError("it names a runtime, and no time of loading")


@dataclass(frozen=True)
class Head:
    """What every message of a board may have: ``size`` bytes follow it; ``file`` is written from byte ``at`` on."""

    size: Annotated[int, Field(strict=True, ge=0, le=2**40)] = 0
    file: Annotated[str, StringConstraints(max_length=400)] | None = None
    at: Annotated[int, Field(strict=True, ge=0, le=2**40)] = 0
    error: Text | None = None


@dataclass(frozen=True)
class Facts:
    """A board's answer to ``facts``."""

    name: Text
    details: Texts
    cores: Annotated[tuple[Annotated[int, Field(strict=True, ge=0, lt=1000)], ...], Field(max_length=1000)]
    cache: Name
    python: Name


@dataclass(frozen=True)
class Python:
    """What an interpreter of a board tells: its version, its packages with versions, and why one cannot be used, both
    by the runtime's name."""

    python: Text
    packages: Texts
    reasons: Texts


@dataclass(frozen=True)
class State:
    """A board's answer to ``state``."""

    state: Texts


@dataclass(frozen=True)
class Ended:
    """A board's answer to ``run``: the exit code (negative for a signal), and the ends of the outputs."""

    code: Annotated[int, Field(strict=True, ge=-1000, lt=2**32)]
    out: Lines
    err: Lines


@cache
def _adapter(kind: Any) -> Any:
    return TypeAdapter(kind)


def parse(content: bytes, kind: type[T]) -> T:
    """The JSON ``content`` as ``kind``; keys that it does not know are ignored.

    Raises:
        ValueError: what is wrong with it, in a few words.
    """
    try:
        document: T = _adapter(kind).validate_json(content)  # type: ignore[arg-type]  # a class is hashable
        return document
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ValueError(sentence(f"{field}: {first['msg']}" if field else first["msg"], 200)) from error
