"""Artifacts measured for a time: jobs follow one another until it is over. The device keeps running, but for the
moments in which the next job starts.

It works on every target that takes jobs. A job is made as long as a stretch, so that the device tells its temperature
between two of them.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from math import ceil
from time import monotonic

from edgeattn.bundle.records import Stretch
from edgeattn.errors import EdgeAttnError
from edgeattn.targets import INTERRUPTED, Connection, Job, Measurement

# A stretch is a minute; of a run of less than ten minutes it is a tenth.
LONGEST_S, STRETCHES = 60.0, 10
# Runs of the first job, which tells how many fill a stretch. Its samples are not kept if others are.
PROBE = 5
GROWTH = 20
# No job has more runs: the file of its samples is read up to a size (job_folder).
MOST_RUNS = 300_000
# A record keeps so many samples of a stretch: they tell its median to a per cent or so, and a day fits in a file.
KEPT = 500
# A processor's zones by what devices call them; others (battery, modem, skin) count where there is none of these.
_PROCESSOR = ("cpu", "x86_pkg", "soc", "core", "big", "little")
_CELSIUS, _MHZ = re.compile(r"(-?\d{1,3}(?:\.\d+)?) °C"), re.compile(r"(\d{1,6}) MHz")


@dataclass(frozen=True)
class _Part:
    """One job of every artifact; its times are in seconds from the beginning."""

    began_s: float
    ended_s: float
    measured: Sequence[Measurement]

    @property
    def overhead_s(self) -> float:
        """Its time without its samples: to start, load, warm up and send."""
        return max(self.ended_s - self.began_s - self.sampled_s, 0.0)

    @property
    def sampled_s(self) -> float:
        """The time of its samples, and of the untimed run before each where several are interleaved."""
        between = len(self.measured) > 1
        return sum(sum(each.samples_ns) * (each.calls_per_sample + between) for each in self.measured) / 1e9


def length_s(seconds: float) -> float:
    """The length of a stretch in a run of so many seconds."""
    return min(LONGEST_S, seconds / STRETCHES)


def each_part(connection: Connection, jobs: Sequence[Job], seconds: float) -> list[Sequence[Measurement]]:
    """The measurements of the jobs, for each of the parts that follow one another for ``seconds``; each knows its part
    as its only stretch. What ends a part early ends the run; what came before is kept.

    Raises:
        EdgeAttnError, KeyboardInterrupt: there is none before it.
    """
    probe = _part(connection, jobs, PROBE, monotonic())
    start, found, last, fixed_s = monotonic(), list[_Part](), probe, probe.overhead_s
    stopped = f"{why}, before the first stretch" if (why := _stopped(probe)) else ""
    while not stopped:
        now = monotonic() - start
        if found and seconds - now < max(length_s(seconds) / 20, 1.25 * fixed_s):
            break
        try:
            last = _part(connection, jobs, _runs(_next_s(now, fixed_s, seconds), last, fixed_s), start)
        except (EdgeAttnError, KeyboardInterrupt) as error:
            why = INTERRUPTED if isinstance(error, KeyboardInterrupt) else str(error)
        else:
            found.append(last)
            now, why = last.ended_s, _stopped(last)
            fixed_s = min(fixed_s, last.overhead_s)
        stopped = f"{why}, after {now:.0f} of {seconds:.0f} s" if why else ""
    kept = found or [replace(probe, began_s=0.0, ended_s=max(probe.ended_s - probe.began_s, 1e-3))]
    if stopped:  # all artifacts end with the one that did
        kept[-1] = replace(kept[-1], measured=[replace(each, stopped=stopped) for each in kept[-1].measured])
    return [_as_stretches(part, length_s(seconds)) for part in kept]


def by_length(stretches: Sequence[Stretch], length: float) -> tuple[Stretch, ...]:
    """Neighbours that are shorter than ``length``, in seconds, joined; each counts where its middle lies."""
    begins = (0.0, *(stretch.end_s for stretch in stretches))
    places = [int((began + stretch.end_s) / 2 / length) for began, stretch in zip(begins, stretches, strict=False)]
    groups = groupby(zip(places, stretches, strict=True), key=lambda pair: pair[0])
    return tuple(_joined([stretch for _, stretch in group]) for _, group in groups)


def _joined(parts: Sequence[Stretch]) -> Stretch:
    runs, samples = sum(part.runs for part in parts), sum(part.samples for part in parts)
    return replace(parts[-1], runs=runs, samples=samples)


def _part(connection: Connection, jobs: Sequence[Job], runs: int, start: float) -> _Part:
    # The time by operator says nothing of the heat, and would be a rest.
    these = [replace(job, runs=runs, operators=False) for job in jobs]
    began = monotonic()
    measured = connection.run_interleaved(these) if len(these) > 1 else [connection.run(these[0])]
    return _Part(began - start, monotonic() - start, measured)


def _stopped(part: _Part) -> str:
    """Why the first of its artifacts that did so stopped early; "" if none did."""
    if any(each.interrupted for each in part.measured):
        return INTERRUPTED
    return next((each.stopped for each in part.measured if each.stopped), "")


def _next_s(now: float, fixed_s: float, seconds: float) -> float:
    """How long the next part takes: to the end of a stretch, if at least half of it is left to measure in."""
    length = length_s(seconds)
    end = ceil((now + max(length / 4, 2 * fixed_s)) / length) * length
    return min(end, seconds) - now


def _runs(time_s: float, last: _Part, fixed_s: float) -> int:
    """The runs that fill so many seconds, ``fixed_s`` of them without runs. To give the turns to interleaved artifacts
    takes time too, which only a job of many runs tells: so the number grows by a factor at most."""
    number = max((len(each.samples_ns) for each in last.measured), default=0)
    cost_s = max(last.sampled_s, last.ended_s - last.began_s - fixed_s)
    most = min(MOST_RUNS, GROWTH * max(number, 1))
    return most if not cost_s else min(most, max(1, int((time_s - fixed_s) * number / cost_s)))


def _as_stretches(part: _Part, length: float) -> list[Measurement]:
    """The measurements of a part, each with it as its stretch; all keep the same samples, which belong together."""
    most = ceil(KEPT * min(1.0, (part.ended_s - part.began_s) / length))
    every = max(1, ceil(max(len(each.samples_ns) for each in part.measured) / most))
    found = []
    for each in part.measured:
        kept, runs = each.samples_ns[::every], len(each.samples_ns)
        stretch = Stretch(part.ended_s, runs, len(kept), temperature_c(each.after), frequency_mhz(each.after))
        found.append(replace(each, samples_ns=kept, stretches=(stretch,)))
    return found


def temperature_c(state: Mapping[str, str]) -> float | None:
    """The temperature in a device's state, in °C: the hottest of its processor, else of what it tells."""
    found = dict(_celsius(state))
    own = [value for name, value in found.items() if any(word in name.lower() for word in _PROCESSOR)]
    return max(own or found.values(), default=None)


def _celsius(state: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    for name, text in state.items():
        match = _CELSIUS.search(text)
        # A zone that is switched off reads 0, or some impossible value.
        if match and 0 < float(match[1]) < 150:
            yield name, float(match[1])


def frequency_mhz(state: Mapping[str, str]) -> int | None:
    """The highest frequency in a device's state at which cores run now."""
    found = (_MHZ.match(text) for name, text in state.items() if name.startswith("policy"))
    return max((int(match[1]) for match in found if match), default=None)
