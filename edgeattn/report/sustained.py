"""The section on sustained runs: what happens as a device gets warm."""

from collections.abc import Iterator, Sequence

from edgeattn.bundle.records import Record
from edgeattn.profile import heat
from edgeattn.profile.heat import Course
from edgeattn.report import words
from edgeattn.report.document import Cell, Column, Part, Picture, Section, Table, Text, Tone
from edgeattn.report.result import NS_PER_MS, describe, origin_name
from edgeattn.system.duration import clock

# As for samples: nobody looks at more, and each takes some kilobytes.
_MOST_PICTURES = 24


def section(records: Sequence[Record]) -> Iterator[Section]:
    """The section, if a run was sustained. It needs matplotlib."""
    from edgeattn.report.pictures import courses

    groups = [followed for group in _groups(records) if (followed := _followed(group))]
    if not groups:
        return
    parts: list[Part] = [_first_and_last([pair for group in groups for pair in group])]
    parts += [Text(f"{each.group.rpartition(', ')[0]}: {each.sentence}") for each in heat.places(records)]
    for group in groups[:_MOST_PICTURES]:
        found, title = [course for _, course in group], _title(group[0][0])
        parts.append(Picture(title, courses.describe(found), courses.draw(found, title=title), wide=True))
        parts.append(_minutes(title, found))
    if undrawn := len(groups[_MOST_PICTURES:]):
        parts.append(Text(f"{words.number(undrawn, 'run')} more are in the first table and not drawn."))
    lead = (
        "Runs for a time, in stretches of a minute, or of a tenth of a shorter run. Figures of such a record elsewhere "
        "on this page are those of the whole time."
    )
    yield Section("Sustained use", lead, tuple(parts))


def _groups(records: Sequence[Record]) -> list[list[Record]]:
    """Interleaved records together, others alone."""
    groups: dict[str, list[Record]] = {}
    for number, record in enumerate(records):
        groups.setdefault(record.group or f"alone {number}", []).append(record)
    return list(groups.values())


def _followed(records: Sequence[Record]) -> list[tuple[Record, Course]]:
    return [(record, course) for record in records if (course := heat.course(record))]


def _title(record: Record) -> str:
    if not record.group:
        return describe(record)
    threads = words.number(record.threads, "thread")
    return f"{record.runtime}, {threads}, {record.target} ({origin_name(record.origin)}, {record.device.name})"


def _first_and_last(followed: Sequence[tuple[Record, Course]]) -> Table:
    columns = (
        Column("Artifact"), Column("Runtime"), Column("Target"), Column("Time", numeric=True),
        Column("First p50, ms", numeric=True), Column("Last p50, ms", numeric=True),
        Column("Last / first", numeric=True), Column("First to last, °C", numeric=True),
    )  # fmt: skip
    rows = []
    for record, course in followed:
        first, last, ratio = course.minutes[0], course.minutes[-1], course.last_to_first
        tone: Tone = "caution" if ratio and ratio.low > 1 and not course.is_steady else ""
        known = first.temperature_c is not None and last.temperature_c is not None
        rows.append(
            (
                Cell(record.subject.artifact, record.model),
                Cell(f"{record.runtime} {record.runtime_version}", words.number(record.threads, "thread")),
                Cell(record.target, f"{origin_name(record.origin)}, {record.device.name}"),
                Cell(clock(last.end_s), words.number(len(course.minutes), "stretch", "stretches")),
                Cell(words.ms(first.p50_ns / NS_PER_MS), f"until {clock(first.end_s)}"),
                Cell(words.ms(last.p50_ns / NS_PER_MS), f"until {clock(last.end_s)}"),
                Cell(f"{ratio.value:.2f}", f"{ratio.low:.2f} to {ratio.high:.2f}", tone) if ratio else Cell(words.DASH),
                Cell(f"{first.temperature_c:.0f} to {last.temperature_c:.0f}" if known else words.DASH),
            )
        )
    note = "The medians of the first and of the last stretch, and the 95 % interval of their ratio from their samples."
    return Table("First stretch against last", columns, tuple(rows), note)


def _minutes(title: str, courses: Sequence[Course]) -> Table:
    columns = (
        Column("Until", numeric=True),
        *(Column(f"{course.artifact}, ms", numeric=True) for course in courses),
        Column("°C", numeric=True),
        Column("MHz", numeric=True),
    )
    rows = []
    for at in zip(*(course.minutes for course in courses), strict=False):
        times = (
            Cell(words.ms(minute.p50_ns / NS_PER_MS), f"p90 {words.ms(minute.p90_ns / NS_PER_MS)}") for minute in at
        )
        frequency = words.DASH if at[0].frequency_mhz is None else f"{at[0].frequency_mhz:,}"
        rows.append((Cell(clock(at[0].end_s)), *times, Cell(_celsius(at[0].temperature_c)), Cell(frequency)))
    return Table(f"Minute by minute: {title}", columns, tuple(rows))


def _celsius(value: float | None) -> str:
    return words.DASH if value is None else f"{value:.0f}"
