"""What surrounds a command: streams that are closed, full or in ASCII, no working directory, no HOME."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from edgeattn.cli import streams
from edgeattn.parity import ci
from edgeattn.parity.verdicts import NotChecked, Report, Row

ROOT = Path(__file__).parent.parent
RUN = f"'{sys.executable}' -W ignore -m edgeattn"
ASCII = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
# Without Python's own way out of such a locale.
STRICT = {**ASCII, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def shell(line: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[bytes]":
    """A line of bash, with the exit code of the first command of a pipe."""
    return subprocess.run(
        ["bash", "-c", line.replace("edgeattn", RUN, 1) + '; exit "${PIPESTATUS[0]}"'],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        check=False,
    )


def sentence(ran: "subprocess.CompletedProcess[bytes]", said: str) -> None:
    text = ran.stderr.decode()
    assert said in text
    assert text.startswith("edgeattn: ")
    assert text.count("\n") == 1


@pytest.mark.parametrize("command", ["models", "models --json", "--version", "inspect none.onnx"])
def test_stdout_that_is_closed(command: str, tmp_path: Path) -> None:
    ran = shell(f"edgeattn {command} >&-", tmp_path)
    assert ran.returncode == 2
    sentence(ran, "stdout is closed")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", ["models", "models --json", "--version", "--help"])
def test_stdout_that_is_full(command: str, tmp_path: Path) -> None:
    ran = shell(f"edgeattn {command} >/dev/full", tmp_path)
    assert ran.returncode == 2
    sentence(ran, "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
def test_an_error_that_cannot_be_said_has_its_exit_code(tmp_path: Path) -> None:
    assert shell("edgeattn inspect none.onnx 2>/dev/full", tmp_path).returncode == 2
    assert shell("edgeattn inspect none.onnx 2>&-", tmp_path).returncode == 2
    ran = shell("edgeattn inspect none.onnx --json >/dev/full", tmp_path)
    assert ran.returncode == 2
    sentence(ran, "there is no file none.onnx")


@pytest.mark.parametrize("command", ["models", "models --json", "--help", "--version"])
def test_a_reader_that_has_enough(command: str, tmp_path: Path) -> None:
    """`head -1`, and one that reads nothing at all."""
    for reader in ("head -1", "true"):
        ran = shell(f"edgeattn {command} | {reader}", tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert ran.stderr == b""


def test_a_verdict_outlives_its_reader(made_bundle: Path, tmp_path: Path) -> None:
    """The exit code is that of the check, not that of the pipe."""
    file = made_bundle / "attention-fp32.onnx"
    assert shell(f"edgeattn inspect '{file}' | true", tmp_path).returncode == 0
    assert shell(f"edgeattn inspect '{file}' --max-layout-ops 0 --json | true", tmp_path).returncode == 0
    refused = shell("edgeattn inspect none.onnx --json | true", tmp_path)
    assert refused.returncode == 2


def test_stdin_that_is_closed(tmp_path: Path) -> None:
    assert shell("edgeattn models <&-", tmp_path).returncode == 0


def test_a_working_directory_that_was_deleted(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    ran = shell("rmdir ../gone; edgeattn models", gone)
    assert ran.returncode == 2
    sentence(ran, "the working directory was deleted")


@pytest.mark.parametrize(("environment", "name"), [(ASCII, "b\N{GREEK SMALL LETTER BETA}"), (STRICT, "b")])
def test_a_locale_without_unicode(environment: dict[str, str], name: str, made_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / name).symlink_to(made_bundle)
    for what in (f"parity {name}", f"inspect {name}/attention-fp32.onnx", f"inspect {name}/none.onnx"):
        for more in ("", " --json"):
            ran = shell(f"edgeattn {what}{more}", tmp_path, **environment)
            assert ran.returncode == (2 if "none" in what else 0), ran.stderr
            assert b"Traceback" not in ran.stderr
            assert ran.stdout.isascii()
            if more:
                json.loads(ran.stdout)
    for form in ("html", "md", "csv", "json"):
        ran = shell(f"edgeattn report {name} --no-layers --out r.{form}", tmp_path, **environment)
        assert ran.returncode == 0, ran.stderr
        assert (tmp_path / f"r.{form}").read_bytes().decode()


def test_a_home_that_is_a_file(made_bundle: Path, tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": ""}
    (tmp_path / "home").touch()
    ran = shell("edgeattn setup emulated-arm", tmp_path, **home)
    assert ran.returncode in (2, 3)
    sentence(ran, "home")
    assert shell(f"edgeattn inspect '{made_bundle / 'attention-fp32.onnx'}'", tmp_path, **home).returncode == 0
    drawn = shell(f"edgeattn report '{made_bundle}' --no-layers --out r.html", tmp_path, **home)
    assert drawn.returncode == 0, drawn.stderr
    assert b"Traceback" not in drawn.stderr


def test_json_of_names_that_are_no_utf_8() -> None:
    name = os.fsdecode(b"a\xff.onnx")
    assert json.loads(streams.json({"file": [name, Path(name)], name: 1})) == {"file": ["a?.onnx"] * 2, "a?.onnx": 1}
    assert json.loads(streams.json({"n": float("inf")})) == {"n": None}


def test_junit_holds_any_name() -> None:
    """Control characters, lone surrogates and non-characters cannot stand in XML, not even escaped."""
    name = "a\x00\x08\x0b\x1b[2J\ud800\uffff<&\"'\n\N{GREEK SMALL LETTER BETA}"
    row = Row("conversion", name, name, name, name, False, name, None, None, None, None, None)
    document = ci.junit(Report((row,), (NotChecked(name, name, name),), {}), name)
    suite = ElementTree.fromstring(document)
    assert [case.tag for case in suite] == ["testcase", "testcase"]
    failure = suite[0][0].get("message", "")
    assert failure.endswith("<&\"'\n\N{GREEK SMALL LETTER BETA}")
    assert failure.count("\N{REPLACEMENT CHARACTER}") == 6
