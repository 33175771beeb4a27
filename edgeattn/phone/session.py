"""One ``edgeattn phone`` from its address to its records."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from edgeattn.bundle.manifest import Bundle
from edgeattn.bundle.records import NotRun, Record
from edgeattn.phone import cable, journal, serving, setup, site
from edgeattn.phone.display import Display
from edgeattn.phone.phones import Phone, Phones
from edgeattn.phone.plan import plan
from edgeattn.phone.server import Site, application

_ONLY_HERE = "It can be reached from this computer alone. For phones in your network: --host lan; by a cable: --adb."
_IN_THE_NETWORK = "Everyone in your network can reach this computer's port, and who has the whole address the page too."
_PLAIN = (
    "This page comes over plain http: browsers then give it one thread, no WebGPU and a coarse clock. "
    "For all of them, start edgeattn again without the option for http."
)


@dataclass(frozen=True)
class Options:
    """What was asked for; ``wait`` is the number of phones after which it ends, None if Ctrl-C does."""

    host: str
    https: bool
    port: int
    runs: int
    wait: int | None
    out: Path
    adb: bool
    command: str


@dataclass(frozen=True)
class Found:
    """What came in, in the order in which it did."""

    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...]
    phones: int

    @property
    def passed(self) -> bool:
        """Something was measured, and nothing gave other outputs than the model."""
        judged = [record.parity for record in self.records if record.parity]
        return bool(judged) and all(parity.passed for parity in judged)


def run(bundle: Bundle, options: Options) -> Found:
    """Serve until it is over; what arrived is in ``options.out`` then, however it ended.

    Raises:
        ArtifactError: ``options.out`` is there, and holds no records.
        BadInputError: the address, or the file, cannot be used.
        MissingError: the runtimes were not set up, or no phone is attached.
    """
    runtimes = setup.ready()
    what = plan(bundle, runs=options.runs, runtime_versions=setup.versions(runtimes))
    phones = Phones()
    display = Display(what, phones)
    stop = asyncio.Event()

    def changed(phone: Phone, task: str) -> None:
        display.changed(phone, task)
        if options.wait and phones.finished >= options.wait:
            stop.set()

    with (
        journal.writing(options.out) as kept,
        serving.place(options.host, https=options.https, port=options.port) as here,
        cable.opened(here) if options.adb else nullcontext(here) as place,
        serving.interrupts(stop.set),
    ):
        plain = not options.https and place.host != "localhost"
        served = Site(
            plan=what,
            files=site.files(what, runtimes, {"notice": _PLAIN if plain else ""}),
            journal=kept,
            phones=phones,
            token=place.token,
            hosts=(place.host,),
            local=frozenset() if options.adb else place.local,
            command=options.command,
            changed=changed,
        )
        hints = [] if options.adb else [_ONLY_HERE if place.host == "localhost" else _IN_THE_NETWORK]
        display.open(place, [*hints, *([_PLAIN] if plain else [])])
        with display.watching():
            asyncio.run(serving.serve(place, application(served), stop))
    records = tuple(entry.record for entry in kept.entries if entry.record)
    not_run = tuple(entry.not_run for entry in kept.entries if entry.not_run)
    return Found(records, (*what.not_run, *not_run), len(phones.known))
