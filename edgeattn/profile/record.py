"""From a module to a file that a target runs, and from what was seen there to a record."""

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
    """A file that is of no bundle, called ``name``."""
    file = describe(path.parent, path)
    return counted(Subject(name, file.sha256, file.size_bytes, format_name, precision), path)


@cache
def counted(subject: Subject, path: Path) -> Subject:
    """The subject with what its file at ``path`` moves without computing, if that can be counted here.

    Once for each file (the subject holds its hash), however many runtimes and numbers of threads it is measured in.
    """
    try:
        found = inspection.inspect(path)
    except (MissingError, ArtifactError):
        # Not by the packages that there are: the measurement does not need it.
        return subject
    layout_ops, layout_bytes = found.worst_layout_ops, found.layout_bytes
    return replace(subject, layout_ops=layout_ops, layout_bytes=layout_bytes, copy_bytes=found.copy_bytes)


def record(seen: Measurement, job: Job, subject: Subject, target: str, model: str = "") -> Record:
    """What was seen of ``job``, as a record, with the quality_warnings that its samples raise."""
    untrusted = (*([seen.stopped] if seen.stopped else []), *seen.untrusted, *quality_warnings(seen.samples_ns))
    return Record(
        **replace(seen, untrusted=untrusted).as_fields(),
        model=model,
        subject=subject,
        target=target,
        versions=versions(),
        threads=job.threads,
        partial=bool(seen.stopped),
    )
