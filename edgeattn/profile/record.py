"""Makes a record from the measurement of one artifact."""

from dataclasses import replace
from functools import cache
from pathlib import Path

from edgeattn.bundle.manifest import describe
from edgeattn.bundle.records import Record, Subject
from edgeattn.errors import ArtifactError, MissingError
from edgeattn.inspection import inspect as inspection
from edgeattn.profile.latency import quality_warnings
from edgeattn.system.versions import versions
from edgeattn.targets import Job, Measurement


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
    untrusted = (
        *([measurement.stopped] if measurement.stopped else []),
        *measurement.untrusted,
        *quality_warnings(measurement.samples_ns),
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
