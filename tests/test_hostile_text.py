"""Text from outside reaches no terminal and no report as what steers them: one function makes it safe."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from test_hostile_names import change

from edgeattn.interface import tables
from edgeattn.system import foreign, notes

Command = Callable[..., Answer]
# A title and a cleared screen; the same in eight bits; a carriage return; the direction of writing, and its isolation.
EVIL = "\x1b]0;pwned\x07\x1b[2J\x9b2J\r\x08\u202egpj.\u2066\u200b\x7f"
STEERING = {c for c in EVIL if not c.isprintable()}


def steers(text: str) -> bool:
    return bool(STEERING & set(text))


@given(st.text(st.characters(), max_size=60))
def test_what_is_shown(text: str) -> None:
    seen = foreign.shown(text)
    assert len(seen) == len(text)
    assert not steers(seen)
    assert "\n" not in seen
    assert foreign.shown(seen) == seen
    assert [a for a, b in zip(text, seen, strict=True) if b != "\ufffd"] == [b for b in seen if b != "\ufffd"] or (
        "\ufffd" in text
    )
    assert foreign.shown(text, keep="\n").count("\n") == text.count("\n")
    assert len(foreign.sentence(text * 100, 50)) <= 50
    assert foreign.sentence(text * 100, 50).isprintable() or "\u00a0" in text or not steers(foreign.sentence(text))


@given(st.recursive(st.text(st.characters(exclude_categories=["Cs"]), max_size=9), lambda x: st.lists(x, max_size=3)))
def test_json_keeps_its_values(value: object) -> None:
    document = json.dumps({"a": value}, ensure_ascii=False, indent=2)
    assert json.loads(foreign.escaped(document)) == {"a": value}
    assert not steers(foreign.escaped(document))


def test_what_is_good_stays() -> None:
    for text in ("48.3 °C", "новый-バンドル", "a\u00a0b\u2009c", "[red]", "é\u0301"):
        assert foreign.shown(text) == text


def test_every_way_to_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    shown = tables.table(EVIL, "a")
    shown.add_row(EVIL)
    shown.add_row(Text(EVIL, "red"))
    assert not steers(tables.plain([shown, EVIL, Text(EVIL)]))
    notes.note(EVIL)
    assert not steers(capsys.readouterr().err)


@pytest.fixture
def evil(bundle: Path, edgeattn: Command, tmp_path: Path) -> tuple[Path, Path]:
    """A bundle and its records, with such text wherever there is text."""
    out = tmp_path / "r.json"
    assert edgeattn("profile", bundle, "--runs", 3, "--warmup", 1, "--out", out).code == 0
    document = json.loads(out.read_text())
    for record in document["records"]:
        for key in ("model", "target", "runtime", "runtime_version", "operators_note", "command", "group"):
            record[key] += EVIL
        record["untrusted"] = [EVIL]
        record["subject"]["artifact"] += EVIL
        record["device"] = {"name": EVIL, "details": {EVIL: EVIL}}
        record["before"] = record["after"] = record["labels"] = {EVIL: EVIL}
        for row in record["operators"]:
            row["name"] += EVIL
    for entry in document["not_run"]:
        entry["reason"] = EVIL
    out.write_text(json.dumps(document))

    def edit(manifest: dict) -> None:
        manifest["notes"] = [EVIL]
        manifest["calibration"] = {
            "about": EVIL,
            "number": 1,
            "sha256": EVIL,
            "skipped": {EVIL: EVIL},
            "warning": EVIL,
        }
        manifest["cases"] = {"example": EVIL}
        manifest["cases_omitted"] = {"other": EVIL}
        manifest["tools"] = {EVIL: EVIL}
        manifest["arguments"] = {EVIL: EVIL}
        for artifact in manifest["artifacts"]:
            artifact["details"] = {EVIL: EVIL, "weights": EVIL}

    change(bundle, edit)
    return bundle, out


@pytest.mark.parametrize("json_too", [False, True])
def test_no_command_prints_it(json_too: bool, evil: tuple[Path, Path], edgeattn: Command) -> None:
    bundle, out = evil
    more = ["--json"] if json_too else []
    for command in (["parity", bundle], ["compare", out, out], ["profile", bundle, "--runs", 1]):
        answer = edgeattn(*command, *more)
        assert answer.out
        assert not steers(answer.out + answer.err)


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_no_report_holds_it(ending: str, evil: tuple[Path, Path], edgeattn: Command, tmp_path: Path) -> None:
    bundle, out = evil
    report = tmp_path / f"report.{ending}"
    answer = edgeattn("report", out, bundle, "--out", report)
    assert answer.code in (0, 1), answer.err
    text = report.read_bytes().decode()
    assert "pwned" in text
    # The ends of the lines of CSV are its own.
    assert not steers(text.replace("\r\n", "\n"))
    if ending == "csv":
        assert len(list(csv.reader(io.StringIO(text)))) > 1
