"""Turns a phone's messages into records: the device, the evidence, and whether the outputs are the model's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from statistics import median

import numpy as np

from edgeattn._version import __version__
from edgeattn.bundle.manifest import Artifact
from edgeattn.bundle.records import Device, NotRun, Origin, Record, Stretch, Subject
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.parity.check import likeness
from edgeattn.phone.messages import Join, PhoneMeasurement, Placement
from edgeattn.phone.plan import Plan, Task
from edgeattn.profile.latency import quality_warnings

# The platforms that browsers of phones and tablets name, whatever else they hide.
_PHONES = ("Linux arm", "Linux aarch64", "iPhone", "iPad", "Android")
# Adapters that are no GPU: Chromium's, Mesa's, and that of Windows.
_SOFTWARE = ("swiftshader", "llvmpipe", "lavapipe", "basic render")


@dataclass(frozen=True)
class Sender:
    """The device that sends, as a record names it."""

    device: Device
    origin: Origin


def sender(join: Join, *, session: str, local: bool) -> Sender:
    """``local``: the browser runs on this machine, not on a phone at the cable. A browser that is not certainly a
    phone's counts as a desktop's: its times must not pass for a phone's."""
    phone = join.mobile and join.platform.startswith(_PHONES) and not local
    details = {**join.details, "platform": join.platform, "session": session}
    return Sender(Device(join.name or "a browser without a name", details), "phone" if phone else "browser")


def label(plan: Plan, task: Task) -> str:
    """A task, for people."""
    where = task.backend if task.backend != "wasm" else f"wasm, {'1 thread' if task.threads == 'one' else 'threads'}"
    return f"{plan.artifacts[task.artifact].file.path} in {task.runtime} ({where})"


def not_run(plan: Plan, task: Task, by: Sender, reason: str) -> NotRun:
    return NotRun(label(plan, task), f"{by.origin}: {by.device.name}", reason)


def record(
    plan: Plan, task: Task, measurement: PhoneMeasurement, by: Sender, *, started_at: str, command: str
) -> Record:
    """A measurement as a record, with the verdict of parity.

    Raises:
        BadInputError: it holds outputs that the artifact does not have, or more samples than the plan has.
    """
    artifact, other = plan.artifacts[task.artifact], plan.other(task)
    if len(measurement.samples_ns) > plan.runs:
        raise BadInputError(f"{len(measurement.samples_ns)} samples are more than the {plan.runs} that were asked for")
    if bool(measurement.stretches) != (plan.seconds is not None):
        raise BadInputError("stretches belong to a run for a time, and to no other")
    payloads = (measurement.first, measurement.other, measurement.last)
    first, between, last = (_outputs(plan, artifact, each) for each in payloads)
    file = artifact.file
    details = {**measurement.details, **by.device.details}
    untrusted = _quality_warnings(plan, measurement)
    if task.backend != "wasm":
        details["accelerated"] = _accelerated(task, measurement.placement)
        untrusted = chain(_backend_warnings(task, measurement, first, last), untrusted)
    return Record(
        model=plan.bundle.manifest.model,
        subject=Subject(file.path, file.sha256, file.size_bytes, artifact.format, artifact.precision),
        # Not the user's word: a desktop's browser is never called a phone.
        target=by.origin,
        origin=by.origin,
        device=Device(by.device.name, details),
        runtime=_runtime(task, measurement.placement),
        runtime_version=plan.runtime_versions[task.runtime],
        versions={**plan.bundle.manifest.tools, "edgeattn": __version__},
        **measurement.model_dump(exclude={"hidden", "first", "other", "last", "details", "placement", "stretches"}),
        stretches=tuple(Stretch(each.end_s, each.runs, each.samples) for each in measurement.stretches),
        started_at=started_at,
        parity=likeness(artifact, plan.golden, first, last, (other, between) if other else None),
        command=command,
        partial=bool(_cut_off(plan, measurement)),
        untrusted=tuple(untrusted),
    )


def summary(record: Record) -> str:
    """A record in a few words."""
    verdict = ""
    if record.parity:
        verdict = "parity passed" if record.parity.passed else f"parity FAILED, {record.parity.reason}"
    threads = f"{record.threads} thread{'s' * (record.threads > 1)}"
    where = record.device.details.get("accelerated", "")
    return ", ".join(filter(None, (f"{median(record.samples_ns) / 1e6:.3f} ms", threads, verdict, where)))


def _runtime(task: Task, placement: Placement | None) -> str:
    """The name in a record: a time in which the CPU has a part never stands in the row of a backend alone."""
    name = f"{task.runtime} {task.backend}"
    if task.backend == "wasm" or (placement and placement.full):
        return name
    return f"{name} and CPU" if placement else f"{name} or CPU"


def _accelerated(task: Task, placement: Placement | None) -> str:
    """How many operators ran on the backend of ``task``."""
    if placement is None:
        return "it does not say who ran what"
    taken, left = placement.taken, placement.left
    if placement.full:
        return f"all {'' if taken is None else f'{taken} '}operators on {task.backend}"
    count = "not all" if taken is None or left is None else f"{taken} of {taken + left}"
    return f"{count} operators on {task.backend}, others on the CPU"


def _backend_warnings(task: Task, measurement: PhoneMeasurement, first: Arrays, last: Arrays) -> Iterator[str]:
    """What to know of a run on another backend than the CPU."""
    placement, adapter = measurement.placement, measurement.details.get("adapter", "")
    if placement is None:
        yield f"{task.runtime} does not say whether all operators ran on {task.backend}: the CPU may have a part in it"
    elif not placement.full:
        number = "some" if placement.left is None else str(placement.left)
        of = "" if placement.left is None or placement.taken is None else f" of {placement.left + placement.taken}"
        why = f" ({'; '.join(placement.words)})" if placement.words else ""
        yield f"{number}{of} operators ran on the CPU{why}: this is no time of {task.backend} alone"
    if any(name in adapter.lower() for name in _SOFTWARE):
        yield f"its GPU is a driver in software ({adapter}): these times are no GPU's"
    if any(not np.array_equal(value, last.get(name, ()), equal_nan=True) for name, value in first.items()):
        yield "the last run does not repeat the outputs of the first: some phone drivers are right in the first only"


def _outputs(plan: Plan, artifact: Artifact, payloads: Mapping[str, bytes]) -> Arrays:
    """Bytes as arrays; where their number is wrong, an array of another shape, which fails parity."""
    wanted = plan.outputs(artifact)
    if unknown := payloads.keys() - wanted.keys():
        raise BadInputError(f"{artifact.file.path} has no output {sorted(unknown)[0]!r}")
    arrays: Arrays = {}
    for name, content in payloads.items():
        expected = wanted[name]
        whole = content[: len(content) // expected.itemsize * expected.itemsize]
        values = np.frombuffer(whole, expected.dtype)
        arrays[name] = values.reshape(expected.shape) if len(content) == expected.nbytes else values
    return arrays


def _cut_off(plan: Plan, measurement: PhoneMeasurement) -> str:
    """Why not all of it was measured; "" if it was."""
    if plan.seconds is not None:
        end_s = measurement.stretches[-1].end_s
        return f"it ended after {end_s:.0f} of {plan.seconds:.0f} s" if end_s < plan.seconds else ""
    samples = len(measurement.samples_ns)
    return f"its time was up after {samples} of {plan.runs} samples" if samples < plan.runs else ""


def _quality_warnings(plan: Plan, measurement: PhoneMeasurement) -> Iterator[str]:
    samples = measurement.samples_ns
    if why := _cut_off(plan, measurement):
        yield why
    if measurement.hidden:
        hidden = sorted(set(measurement.hidden))
        numbers = ", ".join(str(number) for number in hidden[:20])
        yield f"the page was not on the screen during {len(hidden)} of {len(samples)} samples ({numbers})"
    yield from quality_warnings(samples)
