"""From what a phone sent to records: whose it is, what it is worth, and whether the outputs are the model's."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import median

import numpy as np

from edgeattn._version import __version__
from edgeattn.bundle.manifest import Artifact
from edgeattn.bundle.records import Device, NotRun, Origin, Record, Subject
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import BadInputError
from edgeattn.parity.check import likeness
from edgeattn.phone.messages import Join, Seen
from edgeattn.phone.plan import Plan, Task
from edgeattn.profile.latency import quality_warnings

# What the browsers of phones and tablets say of their platform, whatever else they hide.
_PHONES = ("Linux arm", "Linux aarch64", "iPhone", "iPad", "Android")


@dataclass(frozen=True)
class Sender:
    """Who sends: a device as a record names it."""

    device: Device
    origin: Origin


def sender(join: Join, *, session: str, local: bool) -> Sender:
    """``local``: it reached us from this very machine, and not over a phone's cable. A browser that is not surely a
    phone's counts as a desktop's: its time must not stand for a phone's."""
    phone = join.mobile and join.platform.startswith(_PHONES) and not local
    details = {**join.details, "platform": join.platform, "session": session}
    return Sender(Device(join.name or "a browser without a name", details), "phone" if phone else "browser")


def label(plan: Plan, task: Task) -> str:
    """A task in words."""
    where = task.backend if task.backend != "wasm" else f"wasm, {'1 thread' if task.threads == 'one' else 'threads'}"
    return f"{plan.artifacts[task.artifact].file.path} in {task.runtime} ({where})"


def not_run(plan: Plan, task: Task, by: Sender, reason: str) -> NotRun:
    return NotRun(label(plan, task), f"{by.origin}: {by.device.name}", reason)


def record(plan: Plan, task: Task, seen: Seen, by: Sender, *, started_at: str, command: str) -> Record:
    """What was seen, as a record, with the verdict of parity.

    Raises:
        BadInputError: it holds outputs that the artifact does not have, or more samples than were asked for.
    """
    artifact = plan.artifacts[task.artifact]
    if len(seen.samples_ns) > plan.runs:
        raise BadInputError(f"{len(seen.samples_ns)} samples are more than the {plan.runs} that were asked for")
    first, last = (_outputs(plan, artifact, sent) for sent in (seen.first, seen.last))
    file = artifact.file
    return Record(
        model=plan.bundle.manifest.model,
        subject=Subject(file.path, file.sha256, file.size_bytes, artifact.format, artifact.precision),
        # Not what was typed: a desktop's browser is not called a phone anywhere.
        target=by.origin,
        origin=by.origin,
        device=Device(by.device.name, {**seen.details, **by.device.details}),
        runtime=f"{task.runtime} {task.backend}",
        runtime_version=plan.runtime_versions[task.runtime],
        versions={**plan.bundle.manifest.tools, "edgeattn": __version__},
        **seen.model_dump(exclude={"hidden", "first", "last", "details"}),
        started_at=started_at,
        parity=likeness(artifact, plan.golden, first, last),
        command=command,
        partial=len(seen.samples_ns) < plan.runs,
        untrusted=tuple(_doubts(plan, seen)),
    )


def summary(record: Record) -> str:
    """A record in a few words."""
    verdict = ""
    if record.parity:
        verdict = "parity passed" if record.parity.passed else f"parity FAILED, {record.parity.reason}"
    return f"{median(record.samples_ns) / 1e6:.3f} ms, {record.threads} thread{'s' * (record.threads > 1)}, {verdict}"


def _outputs(plan: Plan, artifact: Artifact, sent: Mapping[str, bytes]) -> Arrays:
    """Bytes as arrays; where they are not as many as they should be, an array of another shape, which fails parity."""
    wanted = plan.outputs(artifact)
    if unknown := sent.keys() - wanted.keys():
        raise BadInputError(f"{artifact.file.path} has no output {sorted(unknown)[0]!r}")
    found: Arrays = {}
    for name, content in sent.items():
        like = wanted[name]
        whole = content[: len(content) // like.itemsize * like.itemsize]
        values = np.frombuffer(whole, like.dtype)
        found[name] = values.reshape(like.shape) if len(content) == like.nbytes else values
    return found


def _doubts(plan: Plan, seen: Seen) -> Iterator[str]:
    samples = seen.samples_ns
    if len(samples) < plan.runs:
        yield f"its time was up after {len(samples)} of {plan.runs} samples"
    if seen.hidden:
        numbers = ", ".join(str(number) for number in sorted(set(seen.hidden))[:20])
        yield f"the page was not on the screen during {len(set(seen.hidden))} of {len(samples)} samples ({numbers})"
    yield from quality_warnings(samples)
