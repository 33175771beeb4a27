"""The last section of a report: devices, versions, files and commands."""

from collections.abc import Iterator

from edgeattn.bundle.records import Record
from edgeattn.report import words
from edgeattn.report.content import Content
from edgeattn.report.document import Cell, Column, Part, Section, Table
from edgeattn.report.result import origin_name


def details(content: Content) -> Iterator[Section]:
    parts: list[Part] = []
    commands = dict.fromkeys([*(r.command for r in content.records if r.command), *content.commands])
    if commands:
        rows = tuple((Cell(command),) for command in commands)
        parts.append(Table("Commands", (Column("What was typed"),), rows))
    if devices := _devices(content.records):
        parts.append(devices)
    if protocol := _protocol(content.records):
        parts.append(protocol)
    if versions := _versions(content):
        parts.append(versions)
    if files := _files(content):
        parts.append(files)
    if parts:
        lead = "Everything that is needed to repeat the measurements."
        yield Section("Environment, versions, commands", lead, tuple(parts), folded=True)


def _devices(records: tuple[Record, ...]) -> Table | None:
    rows: dict[tuple[str, ...], None] = {}
    for r in records:
        facts = [*r.device.details.items()]
        facts += [(f"{name}, before", value) for name, value in r.before.items()]
        facts += [(f"{name}, after", value) for name, value in r.after.items()]
        text = "; ".join(f"{name}: {value}" for name, value in facts)
        rows[origin_name(r.origin), r.device.name, r.target, text] = None
    columns = (Column("Device"), Column("Origin"), Column("Target"), Column("What it told"))
    cells = tuple((Cell(d), Cell(o), Cell(t), Cell(text)) for o, d, t, text in rows)
    return Table("Devices", columns, cells) if rows else None


def _protocol(records: tuple[Record, ...]) -> Table | None:
    columns = (
        Column("Artifact"), Column("Runtime"), Column("Target"), Column("Warm-up, runs", numeric=True),
        Column("Runs", numeric=True), Column("Calls a sample", numeric=True), Column("Clock step, ns", numeric=True),
        Column("Measured in turn"), Column("Began, UTC"), Column("Known against it"),
    )  # fmt: skip
    rows = tuple(
        (
            Cell(r.subject.artifact, r.subject.precision or ""),
            Cell(f"{r.runtime} {r.runtime_version}", words.number(r.threads, "thread")),
            Cell(r.target, origin_name(r.origin)),
            Cell(str(r.warmup), "" if r.warmup_ns is None else f"{words.ms(r.warmup_ns / 1e6)} ms"),
            Cell(str(len(r.samples_ns) or len(r.counts))),
            Cell(str(r.calls_per_sample)),
            Cell(words.DASH if r.clock_step_ns is None else str(r.clock_step_ns)),
            Cell(r.group or words.DASH),
            Cell(r.started_at or words.DASH),
            Cell("; ".join(r.untrusted) or "nothing", tone="caution" if r.untrusted else ""),
        )
        for r in records
    )
    return Table("How it was measured", columns, rows) if rows else None


def _versions(content: Content) -> Table | None:
    pairs: dict[tuple[str, str], None] = {}
    for versions in (content.versions, *(record.versions for record in content.records)):
        pairs.update(dict.fromkeys(versions.items()))
    pairs.update({(r.runtime, r.runtime_version): None for r in content.records})
    rows = tuple((Cell(tool), Cell(version)) for tool, version in sorted(pairs))
    return Table("Versions", (Column("Tool"), Column("Version")), rows) if rows else None


def _files(content: Content) -> Table | None:
    subjects: list[tuple[str, str, int | None]] = [
        (r.subject.artifact, r.subject.sha256, r.subject.size_bytes) for r in content.records
    ]
    subjects += [(j.artifact, j.sha256, j.size_bytes) for j in content.judged if j.sha256]
    rows = tuple(
        (Cell(name), Cell(words.DASH if size is None else f"{size:,}"), Cell(digest))
        for name, digest, size in dict.fromkeys(subjects)
    )
    columns = (Column("File"), Column("Bytes", numeric=True), Column("SHA-256"))
    return Table("Files", columns, rows) if rows else None
