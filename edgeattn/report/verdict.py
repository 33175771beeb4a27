"""The verdict at the top of a report: is it the same model, how fast is it on which device, and the caveats."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from edgeattn.precision import PRECISIONS, SqnrLimits
from edgeattn.report import words
from edgeattn.report.content import LOWERED, Content
from edgeattn.report.document import Statement
from edgeattn.report.result import Result, origin_name

# The most speeds in the verdict; the tables have the rest.
_MOST = 6
_LONGEST = 240
_OWN_PRECISION = ("phone", "board", "emulated")


def verdict(content: Content, results: tuple[Result, ...]) -> tuple[Statement, ...]:
    speeds = list(_speeds(results))
    return (_parity(content, results), *speeds[:_MOST], *_cautions(content, results, len(speeds) - _MOST))


@dataclass(frozen=True)
class _Check:
    """One comparison with the reference, on any machine."""

    artifact: str
    runtime: str
    passed: bool
    reason: str
    noise_units: float | None = None
    sqnr_db: float | None = None
    location: str = ""
    elsewhere_db: float | None = None
    by_sqnr: bool = False


def _checks(content: Content, results: tuple[Result, ...]) -> Iterator[_Check]:
    for j in content.judged:
        yield _Check(
            j.artifact,
            j.runtime,
            j.passed,
            j.reason,
            j.max_noise_units,
            j.sqnr_db,
            "",
            j.elsewhere_db,
            j.max_noise_units is None,
        )
    for a in content.accuracy:
        yield _Check(a.artifact, a.runtime, a.passed, a.reason)
    for r in results:
        if r.same_model is not None:
            known = PRECISIONS.get(r.precision)
            by_sqnr = known is not None and isinstance(known.limits, SqnrLimits)
            units = None if by_sqnr else r.parity
            yield _Check(
                r.artifact, r.runtime, r.same_model, r.notes, units, r.sqnr_db, f" on {r.target}", None, by_sqnr
            )


def _parity(content: Content, results: tuple[Result, ...]) -> Statement:
    question = "Still the same model?"
    checks = list(_checks(content, results))
    if not checks:
        return Statement(question, "Not judged", "No outputs were compared with the reference.", "caution")
    wrong = [f"{c.artifact} in {c.runtime}{c.location}: {c.reason}" for c in checks if not c.passed]
    if wrong:
        more = f" And {len(wrong) - 1} more." if len(wrong) > 1 else ""
        return Statement(question, "No", f"{wrong[0]}.{more}", "bad")
    # A device that computes in the artifact's own precision shows what this machine did not.
    on_devices = {r.artifact for r in results if r.same_model and r.origin in _OWN_PRECISION}
    if not_shown := [*content.not_shown, *(e for e in content.finer if e.subject not in on_devices)]:
        entry = not_shown[0]
        more = f" And {len(not_shown) - 1} more." if len(not_shown) > 1 else ""
        return Statement(question, "Not shown", f"{entry.subject}: {entry.reason}.{more}", "caution")
    of_artifacts = [c for c in checks if not c.artifact.startswith(LOWERED)] or checks
    artifacts = words.number(len({c.artifact for c in of_artifacts}), "artifact")
    detail = (
        f"{artifacts} checked against the reference in {', '.join(dict.fromkeys(c.runtime for c in of_artifacts))}."
    )
    units = [c.noise_units for c in checks if c.noise_units is not None]
    # That of an fp32 file says nothing beside its noise units.
    noise = [c.sqnr_db for c in checks if c.sqnr_db is not None and (c.by_sqnr or not units)]
    elsewhere = [c.elsewhere_db for c in checks if c.elsewhere_db is not None]
    detail += f" Largest error: {words.units(max(units))} times the noise floor." if units else ""
    detail += f" Signal to noise: {min(noise):.0f} dB or more." if noise else ""
    detail += f" On inputs unlike the model's own: {min(elsewhere):.0f} dB or more." if elsewhere else ""
    detail += "".join(f" {a.correct} of {a.n} labelled inputs right, the reference {a.reference_correct}."
                    for a in content.accuracy[:1])  # fmt: skip
    return Statement(question, "Yes", detail, "good")


def _speeds(results: tuple[Result, ...]) -> Iterator[Statement]:
    """The best result of each model on each device; one without quality warnings comes before one with them."""
    several = len({r.model for r in results}) > 1
    for (origin, model, target, device), rows in groupby(
        results, key=lambda r: (r.origin, r.model, r.target, r.device)
    ):
        usable = [r for r in rows if r.p50_ms is not None or r.instructions is not None]
        if not usable:
            continue
        best = min(usable, key=lambda r: (r.status != "measured", r.p50_ms or r.instructions or 0))
        figure = f"{words.ms(best.p50_ms)} ms" if best.p50_ms is not None else f"{words.millions(best.instructions)} M"
        what = "p50" if best.p50_ms is not None else "Instructions, no time"
        about = f"{best.artifact} in {best.runtime} {best.runtime_version}, {words.number(best.threads, 'thread')}"
        device_text = device if origin == target or device == target else f"{target}, {device}"
        status = "" if best.status == "measured" else f" {best.status.capitalize()}."
        yield Statement(
            origin_name(origin) + (f", {model}" if several else ""),
            figure,
            f"{what}: {about}; {device_text}.{status}",
            "caution" if status else "",
        )


def _cautions(content: Content, results: tuple[Result, ...], hidden: int) -> Iterator[Statement]:
    doubtful = [r for r in results if r.status != "measured"]
    notes: list[tuple[str, str]] = []
    if doubtful:
        # One reason is enough here: the tables have all.
        reason = next((r.notes for r in doubtful if r.notes), "a run stopped before its end")
        notes.append((words.number(len(doubtful), "doubtful figure"), reason))
    if content.warnings:
        notes.append((words.number(len(content.warnings), "warning"), "; ".join(content.warnings)))
    if content.not_run:
        reasons = "; ".join(dict.fromkeys(entry.reason for entry in content.not_run))
        notes.append((f"{len(content.not_run):,} not run", reasons))
    if hidden > 0:
        notes.append((f"{hidden:,} more", "results are in the tables"))
    if notes:
        detail = f"{notes[0][1]}." + "".join(f" {what}: {reason}." for what, reason in notes[1:])
        yield Statement("Good to know", notes[0][0], _short(detail), "caution" if doubtful or content.warnings else "")


def _short(text: str) -> str:
    text = words.sentence(text)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1].rstrip() + "…"
