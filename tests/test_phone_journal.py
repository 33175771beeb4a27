"""The results of phones on disk: what a kill, a full disk or a damaged file leaves is kept."""

import errno
from pathlib import Path

import pytest

from edgeattn.bundle import records
from edgeattn.phone import journal


def test_folding_twice_adds_once(tmp_path: Path) -> None:
    """A kill between the saving of the records and the end of the journal."""
    out = tmp_path / "r.json"
    entry = journal.Entry(not_run=records.NotRun("a", "b", "c"))
    with journal.writing(out) as kept:
        kept.append(entry)
        lines = journal.path_of(out).read_bytes()
    journal.path_of(out).write_bytes(lines)
    with journal.writing(out):
        pass
    assert records.load(out).not_run == (records.NotRun("a", "b", "c"),)


def entry(name: str) -> journal.Entry:
    return journal.Entry(not_run=records.NotRun(name, "b", "c"))


def test_a_full_disk_after_a_kill_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal was cut when its old lines were folded: a line that fails is taken back to there, not beyond."""
    out = tmp_path / "r.json"
    with journal.writing(out) as kept:
        kept.append(entry("before"))
        left = journal.path_of(out).read_bytes()
    journal.path_of(out).write_bytes(left * 3)  # as a kill leaves it
    with journal.writing(out) as kept:
        with monkeypatch.context() as full:
            full.setattr(journal.os, "fsync", refuse)
            with pytest.raises(OSError, match="No space"):
                kept.append(entry("lost, and the phone was told"))
        kept.append(entry("after"))
        assert b"\0" not in journal.path_of(out).read_bytes()
    assert [row.subject for row in records.load(out).not_run] == ["before", "after"]


def refuse(_: int) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("damage", [b"\0" * 300, b"{}\n", b"\xff\xfe\n", b'{"record": 3}\n', b"[[[[[\n"])
def test_a_damaged_line_costs_itself_alone(damage: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "r.json"
    with journal.writing(out) as kept:
        kept.append(entry("one"))
        one = journal.path_of(out).read_bytes()
        kept.append(entry("two"))
        two = journal.path_of(out).read_bytes()[len(one) :]
    out.unlink()
    journal.path_of(out).write_bytes(one + damage + two)
    with journal.writing(out):
        pass
    assert [row.subject for row in records.load(out).not_run] == ["one", "two"]
    assert journal.damaged_of(out).exists() == damage.endswith(b"\n")
    assert ("1 lines" in capsys.readouterr().err) == damage.endswith(b"\n")
