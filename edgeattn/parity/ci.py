"""Parity for a CI: a JUnit file, a Markdown summary, and an assertion for pytest."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from edgeattn.bundle.manifest import load
from edgeattn.parity.check import require_a_check, verify
from edgeattn.parity.verdicts import Report, Row, worst

# Characters that XML 1.0 cannot hold, escaped or not: names in files may have them.
_NOT_XML = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")


def junit(report: Report, name: str) -> bytes:
    """A JUnit document: one test case for each judged output and accuracy, one skipped case for what was not run."""
    suite = ElementTree.Element("testsuite", name=f"edgeattn parity {name}")
    failures = 0
    for subject, title, passed, reason in _verdicts(report):
        case = ElementTree.SubElement(suite, "testcase", classname=subject, name=title)
        if not passed:
            failures += 1
            ElementTree.SubElement(case, "failure", message=reason)
    for entry in report.not_run:
        case = ElementTree.SubElement(suite, "testcase", classname=entry.candidate, name=entry.runtime)
        ElementTree.SubElement(case, "skipped", message=entry.reason)
    for unshown in report.not_shown:
        case = ElementTree.SubElement(suite, "testcase", classname=unshown.candidate, name="not shown")
        ElementTree.SubElement(case, "failure", message=unshown.reason)
        failures += 1
    suite.set("tests", str(len(suite)))
    suite.set("failures", str(failures))
    suite.set("skipped", str(len(report.not_run)))
    ElementTree.indent(suite)
    for element in suite.iter():
        for key, text in element.items():
            element.set(key, _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text))
    document: bytes = ElementTree.tostring(suite, encoding="utf-8", xml_declaration=True)
    return document + b"\n"


def _verdicts(report: Report) -> Iterator[tuple[str, str, bool, str]]:
    for row in report.rows:
        yield f"{row.candidate}.{row.runtime}", f"{row.case}, {row.output}", row.passed, row.reason
    for accuracy in report.accuracy:
        yield f"{accuracy.candidate}.{accuracy.runtime}", "accuracy", accuracy.passed, accuracy.reason


def markdown(report: Report, name: str) -> str:
    """A summary for a pull request: the verdict, the worst case of each artifact and runtime, what was not run."""
    unproved = "**not shown** to be the same model"
    verdict = "**not** the same model" if report.wrong else "the same model" if report.passed else unproved
    lines = [f"### edgeattn parity: {name} is {verdict}", ""]
    lines += ["| artifact | runtime | cases | worst case | noise units | verdict |", "|---|---|---|---|---|---|"]
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in report.rows:
        groups.setdefault((row.candidate, row.runtime), []).append(row)
    for (candidate, runtime), rows in groups.items():
        row = worst(rows)
        units = "-" if row.max_noise_units is None else f"{row.max_noise_units:.2f}"
        outcome = "same" if row.passed else f"DIFFERENT: {row.reason}"
        lines.append(f"| {candidate} | {runtime} | {len(rows)} | {row.case}, {row.output} | {units} | {outcome} |")
    if report.accuracy:
        lines += ["", "| artifact | runtime | right | agreement | verdict |", "|---|---|---|---|---|"]
        for a in report.accuracy:
            outcome = "same" if a.passed else f"DIFFERENT: {a.reason}"
            right = f"{a.correct} of {a.n}" if a.miou is None else f"mIoU {a.miou:.1%}"
            lines.append(f"| {a.candidate} | {a.runtime} | {right} | {a.agreeing} of {a.n} | {outcome} |")
    lines += ["", *(f"- not run: {e.candidate} in {e.runtime}: {e.reason}" for e in report.not_run)]
    lines += [f"- not shown: {e.candidate}: {e.reason}" for e in report.not_shown]
    lines += [f"- {e.candidate} in {e.runtime}: {e.reason}" for e in report.finer]
    lines += [f"- warning: {warning}" for warning in report.warnings]
    return "\n".join(lines).rstrip() + "\n"


def assert_parity(bundle: str | os.PathLike[str]) -> Report:
    """For a test of your own: check ``bundle``, a folder or an :class:`edgeattn.Bundle`, in every installed runtime.

    Returns:
        The report, for further assertions.

    Raises:
        AssertionError: an artifact is not the same model; the message says which, where and by how much.
        ArtifactError: the bundle cannot be read.
        MissingError: no artifact could be run here.
    """
    loaded = load(Path(bundle))
    report = verify(loaded)
    require_a_check(loaded, report)
    wrong = [f"{subject}: {title}: {reason}" for subject, title, passed, reason in _verdicts(report) if not passed]
    wrong += [f"{entry.candidate}: not shown to be the same model: {entry.reason}" for entry in report.not_shown]
    if wrong:
        raise AssertionError(f"{loaded.folder} is not the same model:\n  " + "\n  ".join(wrong))
    return report
