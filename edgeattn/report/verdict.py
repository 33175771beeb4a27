"""The first thing that is read: is it the same model, how fast is it and where, and what to be careful of."""

from collections.abc import Iterator
from itertools import groupby

from edgeattn.report import words
from edgeattn.report.content import Content
from edgeattn.report.document import Statement
from edgeattn.report.results import Result, origin_name

# More statements than this are no verdict any more; the tables say the rest.
_MOST = 6


def verdict(content: Content, results: tuple[Result, ...]) -> tuple[Statement, ...]:
    speeds = list(_speeds(results))
    return (_same(content, results), *speeds[:_MOST], *_cautions(content, results, len(speeds) - _MOST))


def _same(content: Content, results: tuple[Result, ...]) -> Statement:
    question = "Still the same model?"
    checks = [(f"{j.artifact} in {j.runtime}", j.passed, j.max_noise_units, j.reason) for j in content.judged]
    checks += [(f"{a.artifact} in {a.runtime}", a.passed, None, a.reason) for a in content.answers]
    checks += [
        (f"{r.artifact} in {r.runtime} on {r.target}", r.same_model, r.parity, r.notes)
        for r in results
        if r.same_model is not None
    ]
    if not checks:
        return Statement(question, "Not judged", "No outputs were compared with the reference.", "caution")
    wrong = [(name, reason) for name, passed, _, reason in checks if not passed]
    if wrong:
        name, reason = wrong[0]
        more = f" And {len(wrong) - 1} more." if len(wrong) > 1 else ""
        return Statement(question, "No", f"{name} is different: {reason or 'see the tables'}.{more}", "bad")
    units = [value for *_, value, _ in checks if value is not None]
    places = words.number(len({name for name, *_ in checks}), "artifact in its runtime", "artifacts in their runtimes")
    worst = f"; the largest error is {words.units(max(units))} times the noise floor" if units else ""
    answers = "".join(
        f"; {a.correct} of {a.n} answers right, the reference {a.reference_correct}" for a in content.answers[:1]
    )
    return Statement(question, "Yes", f"{places} checked against the reference{worst}{answers}.", "good")


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
        what = "p50" if best.p50_ms is not None else "instructions, no time"
        about = f"{best.artifact} in {best.runtime}, {words.number(best.threads, 'thread')}"
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
    said = list(content.warnings)
    if doubtful:
        said.append(f"{words.number(len(doubtful), 'record')} not to be relied on: {doubtful[0].notes}")
    if content.not_run:
        said.append(f"{words.number(len(content.not_run), 'thing')} not run, listed with the reason")
    if untold > 0:
        said.append(f"{words.number(untold, 'more result')} in the tables")
    if said:
        answer = words.number(len(said), "thing")
        yield Statement("To know", answer, "; ".join(said) + ".", "caution" if doubtful or content.warnings else "")
