"""The first thing that is read: is it the same model, how fast is it and where, and what to be careful of."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from edgeattn.report import words
from edgeattn.report.content import LOWERED, Content
from edgeattn.report.document import Statement
from edgeattn.report.result import Result, origin_name

# More statements than this are no verdict any more; the tables say the rest.
_MOST = 6
_LONGEST = 240


def verdict(content: Content, results: tuple[Result, ...]) -> tuple[Statement, ...]:
    speeds = list(_speeds(results))
    return (_same(content, results), *speeds[:_MOST], *_cautions(content, results, len(speeds) - _MOST))


@dataclass(frozen=True)
class _Check:
    """One comparison with the reference, wherever it was made."""

    artifact: str
    runtime: str
    passed: bool
    reason: str
    noise_units: float | None = None
    sqnr_db: float | None = None
    place: str = ""


def _checks(content: Content, results: tuple[Result, ...]) -> Iterator[_Check]:
    for j in content.judged:
        yield _Check(j.artifact, j.runtime, j.passed, j.reason, j.max_noise_units, j.sqnr_db)
    for a in content.answers:
        yield _Check(a.artifact, a.runtime, a.passed, a.reason)
    for r in results:
        if r.same_model is not None:
            yield _Check(r.artifact, r.runtime, r.same_model, r.notes, r.parity, r.sqnr_db, f" on {r.target}")


def _same(content: Content, results: tuple[Result, ...]) -> Statement:
    question = "Still the same model?"
    checks = list(_checks(content, results))
    if not checks:
        return Statement(question, "Not judged", "No outputs were compared with the reference.", "caution")
    wrong = [f"{c.artifact} in {c.runtime}{c.place}: {c.reason}" for c in checks if not c.passed]
    if wrong:
        more = f" And {len(wrong) - 1} more." if len(wrong) > 1 else ""
        return Statement(question, "No", f"{wrong[0]}.{more}", "bad")
    files = [c for c in checks if not c.artifact.startswith(LOWERED)] or checks
    artifacts = words.number(len({c.artifact for c in files}), "artifact")
    said = f"{artifacts} checked against the reference in {', '.join(dict.fromkeys(c.runtime for c in files))}."
    units = [c.noise_units for c in checks if c.noise_units is not None]
    noise = [c.sqnr_db for c in checks if c.sqnr_db is not None]
    said += f" Largest error: {words.units(max(units))} times the noise floor." if units else ""
    said += f" Signal to noise: {min(noise):.0f} dB or more." if noise else ""
    said += "".join(f" {a.correct} of {a.n} labelled inputs right, the reference {a.reference_correct}."
                    for a in content.answers[:1])  # fmt: skip
    return Statement(question, "Yes", said, "good")


def _speeds(results: tuple[Result, ...]) -> Iterator[Statement]:
    """The best of each model on each device, apart by origin; a result that can be trusted before one that cannot."""
    several = len({r.model for r in results}) > 1
    for (origin, model, target, device), rows in groupby(
        results, key=lambda r: (r.origin, r.model, r.target, r.device)
    ):
        able = [r for r in rows if r.p50_ms is not None or r.instructions is not None]
        if not able:
            continue
        best = min(able, key=lambda r: (r.status != "measured", r.p50_ms or r.instructions or 0))
        told = f"{words.ms(best.p50_ms)} ms" if best.p50_ms is not None else f"{words.millions(best.instructions)} M"
        what = "p50" if best.p50_ms is not None else "Instructions, no time"
        about = f"{best.artifact} in {best.runtime} {best.runtime_version}, {words.number(best.threads, 'thread')}"
        place = device if origin == target or device == target else f"{target}, {device}"
        doubt = "" if best.status == "measured" else f" {best.status.capitalize()}."
        yield Statement(
            origin_name(origin) + (f", {model}" if several else ""),
            told,
            f"{what}: {about}; {place}.{doubt}",
            "caution" if doubt else "",
        )


def _cautions(content: Content, results: tuple[Result, ...], untold: int) -> Iterator[Statement]:
    doubtful = [r for r in results if r.status != "measured"]
    said: list[tuple[str, str]] = []
    if doubtful:
        # The worst of them is enough here: the tables have each.
        why = next((r.notes for r in doubtful if r.notes), "a run stopped before its end")
        said.append((words.number(len(doubtful), "doubtful figure"), why))
    if content.warnings:
        said.append((words.number(len(content.warnings), "warning"), "; ".join(content.warnings)))
    if content.not_run:
        reasons = "; ".join(dict.fromkeys(entry.reason for entry in content.not_run))
        said.append((f"{len(content.not_run):,} not run", reasons))
    if untold > 0:
        said.append((f"{untold:,} more", "results are in the tables"))
    if said:
        detail = f"{said[0][1]}." + "".join(f" {what}: {why}." for what, why in said[1:])
        yield Statement("To know", said[0][0], _short(detail), "caution" if doubtful or content.warnings else "")


def _short(text: str) -> str:
    text = words.sentence(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
