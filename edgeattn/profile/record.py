"""Makes a record from the measurement of one artifact."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from edgeattn.bundle.manifest import describe
from edgeattn.bundle.records import Record, Subject
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.inspection import inspect as inspection
from edgeattn.profile.latency import quality_warnings
from edgeattn.system.versions import versions
from edgeattn.targets import Job, Measurement
from edgeattn.targets._runner import cores


def subject(path: Path, name: str, format_name: str, precision: str = "fp32") -> Subject:
    """The subject of a record for a file outside any bundle, under ``name``."""
    file = describe(path.parent, path)
    return with_counts(Subject(name, file.sha256, file.size_bytes, format_name, precision), path)


@cache
def with_counts(subject: Subject, path: Path) -> Subject:
    """The subject with the layout and copy ops of its file ``path``, if they can be counted here.

    Cached by file (the subject holds its hash): it may be measured in many runtimes and with many numbers of threads.
    """
    try:
        inspected = inspection.inspect(path)
    except (MissingError, ArtifactError):
        # It cannot be counted with the packages that are installed. The measurement does not need it.
        return subject
    layout_ops, layout_bytes = inspected.worst_layout_ops, inspected.layout_bytes
    return replace(subject, layout_ops=layout_ops, layout_bytes=layout_bytes, copy_bytes=inspected.copy_bytes)


def record(measurement: Measurement, job: Job, subject: Subject, target: str, model: str = "") -> Record:
    """The record of the measurement of ``job``, with the warnings about its quality."""
    crowded = _crowded(measurement, job.threads)
    untrusted = (
        *([measurement.stopped] if measurement.stopped else []),
        *measurement.untrusted,
        *([crowded] if crowded else []),
        *quality_warnings(measurement.samples_ns, disturbed_by="its threads wait for one another" if crowded else ""),
    )
    return Record(
        **replace(measurement, untrusted=untrusted).as_fields(),
        model=model,
        subject=subject,
        target=target,
        versions=versions(),
        threads=job.threads,
        partial=bool(measurement.stopped),
    )


def _crowded(measurement: Measurement, threads: int) -> str:
    """A warning if a run has more threads than cores; empty where the cores are not known."""
    details = measurement.device.details
    text = details.get("pinned to cores") or details.get("cores", "")
    if measurement.origin == "host" and text.isdigit():
        number = int(text)  # there it is their number, and not a list
    else:
        try:
            number = len(cores.parse(text, present=""))
        except BadInputError:
            return ""
    if not 0 < number < threads:
        return ""
    return f"{threads} threads on {number} core{'s' if number > 1 else ''}: they wait for one another"
