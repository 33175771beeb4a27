"""Composes a document from records and the content of bundles."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

from edgeattn.bundle.records import Record
from edgeattn.profile import latency
from edgeattn.report import studies, sustained, table, words
from edgeattn.report.content import Content
from edgeattn.report.details import details
from edgeattn.report.document import Document, Part, Picture, Section, Text
from edgeattn.report.operators import operators
from edgeattn.report.result import Result, describe, origin_name
from edgeattn.report.results import results
from edgeattn.report.verdict import verdict

# A picture of samples takes ten kilobytes, and nobody looks at more of them.
_MOST_PICTURES = 24
# Of very many records, whose report would take minutes.
_MANY, _FEW_PICTURES = 200, 8


def compose(content: Content) -> Document:
    """The whole report. It needs matplotlib.

    Raises:
        MissingError: matplotlib is not installed.
    """
    of_studies = tuple(record for record in content.records if record.labels.get("study"))
    profiled = replace(content, records=tuple(record for record in content.records if record not in of_studies))
    only_studies = bool(of_studies) and not (profiled.records or content.judged or content.accuracy)
    figures = results(profiled)
    models = dict.fromkeys([*(r.model for r in profiled.records), *(j.model for j in content.judged)])
    sections = (
        *(() if only_studies else (_figures(profiled, figures), *_parity(content))),
        *studies.sections(of_studies),
        *content.sections,
        *sustained.section(profiled.records),
        *_samples(profiled.records),
        *operators(profiled.records),
        *_depths(content),
        *_attention(content),
        *(_not_measured(content) if only_studies else ()),
        *details(content),
    )
    return Document(
        title=", ".join(models) or studies.title(of_studies) or "edgeattn",
        subtitle=_subtitle(content.records),
        verdict=(*(() if only_studies else verdict(profiled, figures)), *studies.statements(of_studies)),
        sections=sections,
        results=figures,
        not_run=content.not_run,
    )


def _not_measured(content: Content) -> Iterator[Section]:
    if content.not_run:
        yield Section("Not measured", "", (table.not_run(content.not_run),))


def _subtitle(records: tuple[Record, ...]) -> str:
    days = sorted({record.started_at[:10] for record in records if record.started_at})
    when = f", measured {' to '.join(dict.fromkeys((days[0], days[-1])))}" if days else ""
    origins = dict.fromkeys(origin_name(record.origin).lower() for record in records)
    return f"{words.number(len(records), 'record')}{when}" + (f"; {', '.join(origins)}" if origins else "")


def _figures(content: Content, figures: tuple[Result, ...]) -> Section:
    parts: list[Part] = [*table.by_origin(figures)]
    if not content.records:
        parts.append(Text("Nothing is measured yet: edgeattn profile does that.", "caution"))
    if ratios := table.interleaved(content.records):
        parts.append(ratios)
    if content.not_run:
        parts.append(table.not_run(content.not_run))
    lead = "Below each p50 is the 95 % confidence interval of the median. Nothing is compared across origins."
    return Section("Figures", lead if content.records else "", tuple(parts))


def _parity(content: Content) -> Iterator[Section]:
    parts: list[Part] = []
    if content.judged:
        parts.append(table.parity(content.judged, content.not_shown))
    if content.accuracy:
        parts.append(table.accuracy(content.accuracy))
    if parts:
        lead = "The results at export, in the runtimes of that machine."
        yield Section("Still the same model", lead, tuple(parts))


def _samples(records: tuple[Record, ...]) -> Iterator[Section]:
    from edgeattn.report.pictures import samples

    timed = [record for record in records if record.samples_ns]
    if not timed:
        return
    parts: list[Part] = []
    for record in timed[: _FEW_PICTURES if len(timed) > _MANY else _MOST_PICTURES]:
        title = describe(record)
        svg, description = samples.draw(record.samples_ns, latency.summary(record.samples_ns), title=title)
        quality_warnings = (f"{words.sentence(warning)}." for warning in record.untrusted)
        parts.append(Picture(title, " ".join((description, *quality_warnings)), svg))
    if undrawn := len(timed) - len(parts):
        parts.append(Text(f"{words.number(undrawn, 'record')} more are in the tables and not drawn."))
    lead = (
        "Every timed run in its order, and beside it how the times are distributed. A course that climbs or steps up "
        "is a device that throttles."
    )
    yield Section("Run by run", lead, tuple(parts))


def _depths(content: Content) -> Iterator[Section]:
    from edgeattn.report.pictures import depth

    parts: list[Part] = []
    for depths in content.depths:
        title = f"{depths.model}: error by layer"
        svg = depth.draw(depths.curves, title=title, limit=depths.limit, headed=False)
        parts.append(Picture(title, depth.describe(depths.curves, depths.limit), svg, wide=True))
        parts += [Text(sentence) for sentence in depths.sentences]
    if parts:
        lead = "The values inside each artifact against those of the float64 reference, in order of execution."
        yield Section("Error by depth", lead, tuple(parts))


def _attention(content: Content) -> Iterator[Section]:
    from edgeattn.report.pictures import attention

    parts: Iterable[Part] = [
        Picture(title, attention.describe(maps), attention.draw(maps, title=title), wide=True)
        for maps in content.attention
        for title in (f"{maps.model}: {maps.about}",)
    ]
    if parts:
        lead = (
            "The context scores of every separable attention layer over the image: bright is where the layer looks. "
            "They are computed by the reference."
        )
        yield Section("Where it looks", lead, tuple(parts))
