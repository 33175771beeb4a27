"""A report says in every form what the records say, whatever text is in them, and bad input is one sentence."""

import csv
import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from conftest import Answer
from markdown_it import MarkdownIt
from reports import HOST, HOST_TFLITE, NOT_RUN, ONNX, OTHER, PHONE, TFLITE, content, samples

from edgeattn.bundle.records import Device, Operator, Record, Subject
from edgeattn.profile import latency
from edgeattn.report import forms
from edgeattn.report.compose import compose
from edgeattn.report.content import Content
from edgeattn.report.document import Cell, Column, Document, Section, Table
from edgeattn.report.pictures import bars, canvas, curves
from edgeattn.report.results import results

Run = Callable[..., Answer]
SCRIPT = "<script>alert(1)</script>\"'&`|*_[x](javascript:x)$\\frac{$\x07\u202e https://evil.example"


@pytest.fixture(scope="module")
def document() -> Document:
    return compose(content())


def written(document: Document, form: str) -> str:
    return forms.write(document, Path(f"r.{form}")).decode()


def tables(document: Document) -> dict[str, Table]:
    return {part.title: part for section in document.sections for part in section.parts if isinstance(part, Table)}


class Tags(HTMLParser):
    """Tags, the text outside of style, and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_same_records_give_the_same_bytes(document: Document) -> None:
    again = compose(content())
    for ending in forms.endings():
        assert written(document, ending[1:]) == written(again, ending[1:])


def test_all_forms_say_the_same(document: Document) -> None:
    said = [text for s in document.verdict for text in (s.question, s.answer, s.detail)]
    said += [cell.text for table in tables(document).values() for row in table.rows for cell in row]
    page, data = Tags(written(document, "html")).text, json.loads(written(document, "json"))
    shown = re.sub(r"<[^>]*>", " ", MarkdownIt().enable("table").render(written(document, "md")))
    shown = shown.replace("&quot;", '"').replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">")
    for text in said:
        assert text in page
        assert text in shown
        assert text in json.dumps(data, ensure_ascii=False)
    rows = list(csv.DictReader(io.StringIO(written(document, "csv"))))
    assert [row["artifact"] for row in rows] == [*(r.artifact for r in document.results), NOT_RUN.subject]
    assert [r["p50_ms"] for r in data["results"]] == [
        float(row["p50_ms"]) if row["p50_ms"] else None for row in rows[:-1]
    ]
    assert rows[-1]["status"] == "not run"
    assert rows[-1]["notes"] == NOT_RUN.reason


def test_figures_are_the_statistics_of_the_samples() -> None:
    (found,) = results(Content(records=(HOST,)))
    expected = latency.summary(HOST.samples_ns)
    assert found.p50_ms == expected.p50_ns / 1e6
    assert (found.p50_low_ms, found.p50_high_ms) == tuple(ns / 1e6 for ns in expected.p50_interval_ns)
    assert (found.p90_ms, found.p99_ms, found.load_ms) == (expected.p90_ns / 1e6, expected.p99_ns / 1e6, 54.0)
    assert (found.peak_memory_mib, found.layout_ops, found.parity, found.same_model) == (150, 0, 3.2, True)


def test_origins_do_not_mix(document: Document) -> None:
    found = tables(document)
    first = [title for title in found if title in ("Phone", "Emulated", "Host")]
    assert first == ["Phone", "Emulated", "Host"], "the most telling first"
    assert [row[1].text for row in found["Host"].rows] == ["host", "host"]
    assert [row[1].text for row in found["Phone"].rows] == ["android:R58M"]
    heads = [column.name for column in found["Emulated"].columns]
    assert not [name for name in heads if "ms" in name]
    assert "no time" in found["Emulated"].note
    assert "697.5" in [cell.text for cell in found["Emulated"].rows[0]]
    emulated = next(s for s in document.verdict if s.question == "Emulated")
    assert "ms" not in emulated.answer
    assert "no time" in emulated.detail


def test_the_verdict_depends_on_the_records() -> None:
    def verdict(*found: Record, **more: Any) -> dict[str, tuple[str, str]]:
        return {s.question: (s.answer, s.tone) for s in compose(Content(records=found, **more)).verdict}

    good = verdict(HOST, HOST_TFLITE)
    assert good["Still the same model?"] == ("Yes", "good")
    assert good["Host"] == ("19.0 ms", ""), "the faster of the two"
    assert verdict(HOST, replace(HOST_TFLITE, parity=OTHER))["Still the same model?"] == ("No", "bad")
    assert verdict(replace(HOST, parity=None))["Still the same model?"] == ("Not judged", "caution")
    doubtful = verdict(HOST, replace(HOST_TFLITE, untrusted=("it throttles",)))
    assert doubtful["Host"] == ("20.6 ms", ""), "one that can be trusted comes first"
    assert doubtful["Good to know"] == ("1 doubtful figure", "caution")
    assert verdict(HOST, not_run=(NOT_RUN,))["Good to know"] == ("1 not run", "")


def test_parity_of_a_bundle_is_not_that_of_another_file_or_device() -> None:
    judged = content().judged
    unjudged = replace(HOST, parity=None)
    others = (
        replace(unjudged, subject=replace(ONNX, sha256="f" * 64)),
        replace(unjudged, origin="phone", target="android"),
        replace(unjudged, runtime="other"),
    )
    assert results(Content(records=(unjudged,), judged=judged))[0].parity == 3.1
    for other in others:
        assert results(Content(records=(other,), judged=judged))[0].same_model is None


def test_ratios_of_what_was_measured_in_turn(document: Document) -> None:
    (row,) = tables(document)["Interleaved runs"].rows
    assert row[0].text == TFLITE.artifact
    assert row[-1] == Cell("faster", tone="good")
    same = (HOST, replace(HOST_TFLITE, samples_ns=HOST.samples_ns))
    assert tables(compose(Content(records=same)))["Interleaved runs"].rows[0][-1].text == "can't tell"
    apart = (HOST, replace(HOST_TFLITE, group="another"))
    assert "Interleaved runs" not in tables(compose(Content(records=apart)))
    without = (HOST, replace(HOST_TFLITE, samples_ns=(0, 1)))
    assert "Interleaved runs" not in tables(compose(Content(records=without)))


def hostile() -> Content:
    """Someone else's text in every place that a record has for one."""
    subject = Subject(SCRIPT, SCRIPT, 1, SCRIPT, SCRIPT, None)
    bad = replace(
        HOST,
        model=SCRIPT, subject=subject, target=SCRIPT, device=Device(SCRIPT, {SCRIPT: SCRIPT}), runtime=SCRIPT,
        runtime_version=SCRIPT, versions={SCRIPT: SCRIPT}, started_at=SCRIPT, group=SCRIPT, operators_note=SCRIPT,
        operators=(Operator(SCRIPT, SCRIPT, SCRIPT, 5, False), Operator("", "=1+1", "@x", 3, True)),
        before={SCRIPT: SCRIPT}, after={SCRIPT: SCRIPT}, parity=replace(OTHER, reason=SCRIPT), command=SCRIPT,
        untrusted=(SCRIPT,), labels={SCRIPT: SCRIPT},
    )  # fmt: skip
    base = content()
    (attention,), (depths,), (judged,) = base.attention, base.depths, base.judged
    return replace(
        base,
        records=(bad, replace(bad, untrusted=("=HYPERLINK(1)",), target="+1", runtime="@SUM(1)", model="-2")),
        not_run=(replace(NOT_RUN, subject=SCRIPT, target="\t=1", reason="=cmd|' /C calc'!A0"),),
        judged=(replace(judged, artifact=SCRIPT, reason=SCRIPT, worst=SCRIPT),),
        depths=(replace(depths, model=SCRIPT, sentences=(SCRIPT,), curves=(curve(),)),),
        attention=(replace(attention, about=SCRIPT, scores={f"{SCRIPT}.{i}": s for i, s in
                                                            enumerate(attention.scores.values())}),),
        warnings=(SCRIPT,),
        commands=(SCRIPT,),
    )  # fmt: skip


def curve() -> Any:
    (depths,) = content().depths
    return replace(depths.curves[0], label=SCRIPT, first=(0, SCRIPT))


def test_a_strangers_text_stays_text() -> None:
    document = compose(hostile())
    page = Tags(written(document, "html"))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "base", "form", "img"}
    assert [attrs.get("href") for tag, attrs in page.tags if tag in ("a", "link")] == ["data:,"]
    assert not [a for _, attrs in page.tags for a in attrs if a.startswith("on") or a in ("src", "srcset", "srcdoc")]
    for _, attrs in page.tags:
        assert re.fullmatch(r"(data:image/png;base64,[\w+/=\s]*|#p\d+-\w+|data:,)?", attrs.get("xlink:href") or "")
    assert "alert(1)" in page.text, "it is shown"

    shown = MarkdownIt("gfm-like", {"linkify": False}).render(written(document, "md"))
    tags = {tag for tag, _ in Tags(shown).tags}
    assert tags <= {"h1", "h2", "h3", "p", "ul", "li", "strong", "em", "table", "thead", "tbody", "tr", "th", "td"}
    assert "https://" not in written(document, "md"), "nothing to make a link of"

    for row in csv.reader(io.StringIO(written(document, "csv"))):
        assert not [cell for cell in row if cell.lstrip().startswith(("=", "+", "-", "@"))]
        assert len(row) == len(document.results[0].__dataclass_fields__)
    json.loads(written(document, "json"))


def test_what_no_utf8_can_spell_is_still_written() -> None:
    bad = replace(HOST, device=Device("\ud800", {}), parity=replace(OTHER, max_noise_units=float("nan")))
    document = compose(Content(records=(bad,)))
    for ending in forms.endings():
        assert written(document, ending[1:])


def test_a_page_of_its_own(document: Document) -> None:
    page = written(document, "html")
    assert len(page) < 2 << 20
    found = Tags(page)
    pictures = [attrs for tag, attrs in found.tags if tag == "svg"]
    assert len(pictures) == 3 + 2 + 1 + 1, "samples, operators and layers, depth, attention"
    ids = [attrs["id"] for _, attrs in found.tags if attrs.get("id")]
    assert len(ids) == len(set(ids)), "one page, and no name twice"
    for attrs in pictures:
        assert attrs["role"] == "img"
        assert set((attrs["aria-labelledby"] or "").split()) <= set(ids)
    for name in re.findall(r"(?:url\(|href=\")#([\w-]+)", page):
        assert name in ids
    assert "url(http" not in page
    assert not [c for c in canvas.COLOURS.values() if f": {c}" in page.partition("</style>")[2]], "the page's colours"
    assert "samples from" in found.text, "the picture in words"


def test_many_long_records_stay_small() -> None:
    long = [replace(HOST, target=f"android:{i}", origin="phone", samples_ns=samples(5 + i, 3000)) for i in range(40)]
    document = compose(Content(records=tuple(long)))
    assert len(written(document, "html")) < 2 << 20
    assert "16 records more are in the tables" in written(document, "md")
    assert len(tables(document)["Phone"].rows) == 40


def test_throttling_is_said_and_drawn() -> None:
    from edgeattn.report.pictures import samples as drawing

    steady, said = drawing.draw(HOST.samples_ns, latency.summary(HOST.samples_ns), title="t")
    assert "as fast at the end" in said
    throttled, said = drawing.draw(PHONE.samples_ns, latency.summary(PHONE.samples_ns), title="t")
    assert "40 % slower at the end" in said
    assert steady != throttled
    for single in ((5,), (0, 0, 0)):
        drawing.draw(single, latency.summary(single), title="t")


def test_pictures_of_a_study() -> None:
    points = (256.0, 1024.0, 4096.0)
    linear = curves.Series("separable", points, tuple(2e-3 * x for x in points))
    square = curves.Series("multi-head", points, tuple(1e-6 * x**2 for x in points))
    assert linear.slope == pytest.approx(1)
    assert square.slope == pytest.approx(2)
    picture = curves.draw([linear, square], title="t", x="tokens", y="ms")
    assert "separable, slope 1.00" in picture
    assert "multi-head, slope 2.00" in curves.describe([linear, square], "tokens", "ms")
    assert "a: 1 ms; b: 2 ms." in bars.draw([bars.Bar("a", 1, "1 ms"), bars.Bar("b", 2, "2 ms")], title="t", unit="ms")


def test_a_study_brings_its_own_sections() -> None:
    own = Section("Scaling", "As many.", (Table("slopes", (Column("of"),), ((Cell("separable"),),)),))
    document = compose(Content(records=(HOST,), sections=(own,)))
    assert document.sections[1] == own, "right after the figures"
    assert "separable" in written(document, "html")


def test_attention_in_words() -> None:
    from edgeattn.report.pictures import attention

    (found,) = content().attention
    said = attention.describe(found)
    assert "2 most at the top, on the right, 64.0 times the mean" in said
    assert "3 everywhere alike" in said
    assert "data:image/png" in attention.draw(found, title="t")


def test_a_far_outlier_does_not_hide_the_others() -> None:
    from edgeattn.report.pictures import samples as drawing

    usual = (*(140_000 + i for i in range(50)), 400_000)
    near, _ = drawing.draw(usual, latency.summary(usual), title="t")
    far, _ = drawing.draw((*usual, 820_000), latency.summary((*usual, 820_000)), title="t")
    assert "logarithmic" not in near
    assert "ms, logarithmic" in far
    assert {"0.2", "0.5"} <= set(re.findall(r">([\d.]+)</text>", far)), "numbers on an axis of less than a decade"


def test_a_report_of_very_many_records_is_bounded_and_says_so() -> None:
    many = tuple(replace(HOST, model=f"m{i}", samples_ns=HOST.samples_ns[:30]) for i in range(700))
    made = compose(Content(records=many))
    [shown] = [table for name, table in tables(made).items() if name == "Host"]
    assert len(shown.rows) == 500
    assert "200 rows more: a .csv or .json report has all." in shown.note
    page = written(made, "html")
    assert "692 records more are in the tables and not drawn." in page
    assert len(made.results) == 700
    assert len(written(made, "csv").splitlines()) == 701
