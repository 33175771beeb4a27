"""One ``edgeattn phone`` from its address to its records."""

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from edgeattn.bundle.manifest import Bundle
from edgeattn.bundle.records import NotRun, Record
from edgeattn.phone import cable, camera, journal, serving, setup, site
from edgeattn.phone.display import Display
from edgeattn.phone.phones import Phone, Phones
from edgeattn.phone.plan import make_plan
from edgeattn.phone.server import Site, application

_ONLY_HERE = "It can be reached from this computer alone. For phones in your network: --host lan; by a cable: --adb."
_IN_THE_NETWORK = "Everyone in your network can reach this computer's port, and who has the whole address the page too."
_PLAIN = (
    "This page comes over plain http: browsers then give it one thread, no WebGPU and a coarse clock. "
    "For all of them, start edgeattn again without the option for http."
)


@dataclass(frozen=True)
class Options:
    """The options of the command; ``wait`` is the number of phones after which it ends, None if Ctrl-C ends it. With
    ``seconds`` each measurement takes so long, and not ``runs`` runs. ``camera``: the page shows the camera first."""

    host: str
    https: bool
    port: int
    runs: int
    wait: int | None
    out: Path
    adb: bool
    command: str
    seconds: float | None = None
    camera: bool = False


@dataclass(frozen=True)
class Outcome:
    """The results of all phones, in order of arrival."""

    records: tuple[Record, ...]
    not_run: tuple[NotRun, ...]
    phones: int

    @property
    def passed(self) -> bool:
        """Whether something was measured, and all outputs are the model's."""
        judged = [record.parity for record in self.records if record.parity]
        return bool(judged) and all(parity.passed for parity in judged)


def run(bundle: Bundle, options: Options) -> Outcome:
    """Serve until all is done, or Ctrl-C; either way the results are in ``options.out`` at the end.

    Raises:
        ArtifactError: ``options.out`` is there, and holds no records.
        BadInputError: the address, or the file, cannot be used; or the model takes no picture for the camera.
        MissingError: the runtimes were not set up, or no phone is attached.
    """
    runtimes = setup.ready()
    plan = make_plan(bundle, runs=options.runs, runtime_versions=setup.versions(runtimes), seconds=options.seconds)
    shown = camera.files(plan) if options.camera else {}
    phones = Phones()
    display = Display(plan, phones)
    stop = asyncio.Event()

    def changed(phone: Phone, task: str) -> None:
        display.changed(phone, task)
        if options.wait and phones.finished >= options.wait:
            stop.set()

    with (
        journal.writing(options.out) as arrivals,
        serving.endpoint(options.host, https=options.https, port=options.port) as bound,
        cable.opened(bound) if options.adb else nullcontext(bound) as endpoint,
        serving.interrupts(stop.set),
    ):
        plain = not options.https and endpoint.host != "localhost"
        served = Site(
            plan=plan,
            files=site.files(plan, runtimes, {"notice": _PLAIN if plain else ""}) | shown,
            journal=arrivals,
            phones=phones,
            token=endpoint.token,
            hosts=(endpoint.host,),
            local=frozenset() if options.adb else endpoint.local,
            command=options.command,
            changed=changed,
            headers=camera.HEADERS if options.camera else {},
        )
        hints = [] if options.adb else [_ONLY_HERE if endpoint.host == "localhost" else _IN_THE_NETWORK]
        display.open(endpoint, [*hints, *([_PLAIN] if plain else [])])
        with display.watching():
            asyncio.run(serving.serve(endpoint, application(served), stop))
    records = tuple(entry.record for entry in arrivals.entries if entry.record)
    not_run = tuple(entry.not_run for entry in arrivals.entries if entry.not_run)
    return Outcome(records, (*plan.not_run, *not_run), len(phones.by_session))
