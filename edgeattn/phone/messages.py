"""The messages of a phone. All are untrusted: every field has a type and a bound, and other fields are refused."""

from typing import Annotated

from pydantic import AfterValidator, Base64Bytes, BaseModel, ConfigDict, Field, StringConstraints, model_validator

# More than our page ever sends.
_MAX_RUNS = 10_000
_HOUR_NS = 3_600_000_000_000
_DETAILS = 64
_DAY_S, _MOST_STRETCHES = 24 * 3600, 2_000


def _printable(text: str) -> str:
    """One line without control characters: it ends up on a terminal and in a report."""
    if not text.isprintable():
        raise ValueError("holds control characters")
    return text


Word = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Text = Annotated[str, StringConstraints(max_length=400, strip_whitespace=True), AfterValidator(_printable)]
Details = Annotated[dict[Word, Text], Field(max_length=_DETAILS)]
Duration = Annotated[int, Field(ge=1, le=_HOUR_NS)]
Count = Annotated[int, Field(ge=0, le=_MAX_RUNS)]
Operators = Annotated[int, Field(ge=0, le=1_000_000)]


class Message(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Join(Message):
    """A page that was opened. ``session`` is its session from before, if it comes back; ``mobile`` and ``platform`` are
    the browser's own words."""

    session: Word | None = None
    name: Text
    platform: Text
    mobile: bool
    details: Details = {}


class Progress(Message):
    """``run`` runs of the task are done."""

    task: Word
    run: Count


class Placement(Message):
    """Where a runtime says that the operators ran: how many on the backend that was asked for (``taken``) and how many
    on the CPU (``left``), None where it does not say; ``full`` is whether none ran on the CPU. ``words`` are its own,
    on those that did."""

    full: bool
    taken: Operators | None = None
    left: Operators | None = None
    words: Annotated[tuple[Text, ...], Field(max_length=4)] = ()

    @model_validator(mode="after")
    def _one_story(self) -> "Placement":
        if self.left is not None and self.full != (self.left == 0):
            raise ValueError("full is for a run that left nothing to the CPU")
        return self


class PhoneStretch(Message):
    """A stretch of a run for a time, as ``edgeattn.bundle.records.Stretch``; a browser tells no temperature."""

    end_s: Annotated[float, Field(gt=0, le=2 * _DAY_S, allow_inf_nan=False)]
    runs: Annotated[int, Field(ge=0, le=10**12)]
    samples: Count


class PhoneMeasurement(Message):
    """A measurement; its fields are those of ``edgeattn.bundle.records.Record``, and six more.

    ``hidden`` are the numbers of the samples during which the page was not on the screen. ``first`` and ``last`` are
    the outputs of the first and of the last run, ``other`` those of a run of the plan's other case between them, by
    name, as raw bytes. ``placement`` is None where the runtime was not asked or did not answer.
    """

    threads: Annotated[int, Field(ge=1, le=1024)]
    warmup: Count
    warmup_ns: Annotated[int, Field(ge=0, le=_HOUR_NS)]
    samples_ns: Annotated[tuple[Duration, ...], Field(min_length=1, max_length=_MAX_RUNS)]
    stretches: Annotated[tuple[PhoneStretch, ...], Field(max_length=_MOST_STRETCHES)] = ()
    calls_per_sample: Annotated[int, Field(ge=1, le=1_000_000)]
    clock_step_ns: Duration
    load_ns: Duration
    first_run_ns: Duration
    hidden: Annotated[list[Count], Field(max_length=_MAX_RUNS)] = []
    first: Annotated[dict[str, Base64Bytes], Field(max_length=64)]
    other: Annotated[dict[str, Base64Bytes], Field(max_length=64)] = {}
    last: Annotated[dict[str, Base64Bytes], Field(max_length=64)]
    placement: Placement | None = None
    before: Details = {}
    after: Details = {}
    details: Details = {}


class Result(Message):
    """The result of one task: its measurement in ``seen``, or the reason in ``failure``."""

    task: Word
    failure: Text = ""
    seen: PhoneMeasurement | None = None

    @model_validator(mode="after")
    def _either(self) -> "Result":
        if bool(self.failure) == (self.seen is not None):
            raise ValueError("give either seen or failure")
        return self


# JSON around the outputs of a result: numbers of at most 13 digits, texts, names.
_FRAME_BYTES = 400_000
LARGEST_BYTES = {Join: 64_000, Progress: 1_000}


def largest_result_bytes(output_bytes: int) -> int:
    """A bound for the body of a :class:`Result` whose outputs take ``output_bytes``, three times and in base64."""
    return _FRAME_BYTES + 3 * (output_bytes * 4 // 3 + 1_000)
