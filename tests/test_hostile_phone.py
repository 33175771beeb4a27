"""A phone over adb that lies or floods: one sentence, what came before is kept, other phones' records too."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import loop_phone
import pytest
from attached import Attach, left_on, runner_instead
from conftest import Answer

from edgeattn.bundle import records
from edgeattn.bundle.records import Device
from edgeattn.errors import TargetError
from edgeattn.system import bounded, parallel
from edgeattn.targets import Job, android
from edgeattn.targets._runner import job_folder
from edgeattn.targets.android import benchmark_model, benchmark_output, benchmark_tools, state

Command = Callable[..., Answer]
QUICK = ("--runs", 3, "--warmup", 1)
ESC = "\x1b]0;pwned\x07\x1b[2J\u202e"
# In dash: a line of 256 KiB, so many times. It ends, so that a test that fails does not take the machine with it.
LINE = "x=1000000000000000; i=0; while [ $i -lt 14 ]; do x=$x$x; i=$((i+1)); done; i=0; "
TIMES = "while [ $i -lt {} ]; do echo $x{}; i=$((i+1)); done"
RESULT = (
    r"""echo '{"complete": false, "runtime": "litert", "runtime_version": "1", "load_ns": 1, "outputs": ["y"]}' """
    ">0/result.json; echo 1000 >0/samples.txt; echo 1001 >>0/samples.txt; sleep 2; "
)
FLOODS = {
    "stderr": (LINE + TIMES.format(200, " >&2") + "; exit 1", "exit code 1, 0000"),
    "samples": (LINE + TIMES.format(100, " >>0/samples.txt"), "sent more than it may to adb pull"),
    "files": ("i=0; while [ $i -lt 300 ]; do echo x >0/f$i; i=$((i+1)); done; sleep 1", "sent more than it may"),
}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a test reaches without much of the disk."""
    monkeypatch.setattr(android, "FETCH_S", 0.3)
    monkeypatch.setattr(android, "RESULT_BYTES", 2**20)
    monkeypatch.setattr(job_folder, "_OUTPUT_BYTES", 2**20)
    monkeypatch.setattr(android._adb, "MOST_FILES", 200)


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.usefixtures("small")
def test_a_runner_that_floods(
    flood: str, attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    line, said = FLOODS[flood]
    runner_instead(tmp_path / "native", line, monkeypatch)
    phone = attach()
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK)
    assert answer.code == 1
    assert said in answer.err
    assert answer.err.count("\n") == 1
    assert len(answer.err) < 1000
    assert left_on(phone) == []


@pytest.mark.usefixtures("small")
def test_what_came_before_a_flood_is_kept(
    attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner_instead(tmp_path / "native", RESULT + LINE + TIMES.format(100, " >>0/samples.txt"), monkeypatch)
    attach()
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK, "--out", tmp_path / "r.json")
    assert answer.code == 1, answer.err
    (record,) = records.load(tmp_path / "r.json").records
    assert record.partial
    assert record.samples_ns == (1000, 1001)
    assert "sent more than it may to adb pull, which was ended, after 2 of 3 runs" in record.untrusted[0]


def test_a_flood_costs_no_other_phone_its_records(
    attach: Attach, edgeattn: Command, made_bundle: Path, tmp_path: Path
) -> None:
    attach()
    hostile = attach()
    loop_phone.script(hostile.root, "getprop", LINE + TIMES.format(20, ""))
    answer = edgeattn("profile", made_bundle, "--target", "android", *QUICK, "--out", tmp_path / "r.json")
    assert answer.code == 1
    found = records.load(tmp_path / "r.json")
    assert {record.subject.format for record in found.records if not record.partial} >= {"onnx", "tflite"}
    assert any("sent more than it may to adb shell, which was ended" in entry.reason for entry in found.not_run)


def test_a_fault_of_ours_costs_no_other_device_its_results() -> None:
    def work(name: str) -> str:
        return {"good": "done"}[name]

    results = parallel.each(work, ["good", "bad"])
    assert results["good"] == "done"
    assert isinstance(results["bad"], TargetError)
    assert "bad ended in an error that edgeattn did not expect: 'bad'" in str(results["bad"])


def test_what_is_written_without_end() -> None:
    flood = "import sys\nfor _ in range(2000): sys.stdout.write('A' * 65536)"
    process = subprocess.Popen([sys.executable, "-c", flood], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    with pytest.raises(bounded.TooMuchError):
        bounded.finish(process, most=1000, limit_s=60)
    assert process.returncode == -9
    process = subprocess.Popen([sys.executable, "-c", flood + "; sys.stdout.write('B')"], stdout=subprocess.PIPE)
    assert process.stdout
    text = bounded.Output(process.stdout, 1000).text(60)
    assert text == "A" * 999 + "B"
    assert process.wait() == 0


PHONE = """[ro.product.manufacturer]: [Loop]
[ro.product.model]: [Loop 8]
[ro.product.cpu.abilist]: [arm64-v8a]
present=0-7
"""


@pytest.mark.parametrize(
    "more",
    [
        "policy0.scaling_governor=x\n",
        "policy0.scaling_governor=x\npolicy0.scaling_max_freq=\u00b2\nbattery.temperature: \u00b2\nbattery.level: 3\n",
        f"policy0.scaling_governor=x\npolicy0.scaling_cur_freq={'9' * 5000}\nthermal.Thermal Status: {'9' * 5000}\n",
        f"[ro.build.fingerprint]: [{ESC}]\nzone.{ESC}cpu=40000\n[ro.hardware]: [{ESC}\x85\u2028x]\n",
        "".join(f"[k{n}]: [v]\nzone.z{n}=40000\npolicy{n}.scaling_governor=x\n" for n in range(20_000)),
        "[ro.hardware]: [" + "x" * 100_000 + "]\nzone.cpu=nan\nzone.cpu=1e999\nbattery.level: " + "8" * 10_000,
    ],
)
def test_a_state_that_lies(more: str) -> None:
    seen = state.parse(PHONE + more)
    texts = [seen.device.name, *seen.device.details.values(), *seen.summary(), *seen.summary().values(), seen.abis]
    assert all(text.isprintable() for text in texts)
    assert all(len(text) < 1500 for text in texts)
    assert len(seen.properties) <= 500
    assert len(seen.summary()) <= 1002
    assert state.throttled(seen, seen) in (
        (),
        ("the phone was too warm: its thermal status was shutdown after the run",),
    )


OUTPUT = """== start
Init: 5
First inference: 5
Inference timings in us: Init: 5, First inference: 5
count=1 curr=5
count=1 curr=1000
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (OUTPUT.replace("1000", "9" * 400), "a time that cannot be"),
        (OUTPUT.replace("1000", "9" * 5000), "Exceeds the limit"),
        (OUTPUT * 200_000, "are not read"),
        (f"== start\nERROR: {ESC}{'x' * 10_000}\n", "ERROR: \ufffd]0;pwned"),
    ],
)
def test_a_tool_that_lies(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text(text)
    (tmp_path / "tool").write_text("")
    tool = benchmark_tools.Tool(tmp_path / "tool", benchmark_model.TOOL)
    with pytest.raises(TargetError) as refusal:
        tool.read(tmp_path, Job(Path("m.tflite"), {}), device=Device("d", {}), stopped="")
    assert said in str(refusal.value)
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 1000


def test_numbers_that_cannot_be(tmp_path: Path) -> None:
    for said in ("inf", "nan", "-1", "1e300", "9" * 400):
        assert benchmark_output.number("Init:", f"Init: {said}") is None
    assert benchmark_output.number("Init:", "Init: 12.5") == 12.5
    (tmp_path / "tool").write_text("")
    (tmp_path / "out.txt").write_text(OUTPUT.replace("First inference: 5", "First inference: inf") * 3)
    tool = benchmark_tools.Tool(tmp_path / "tool", benchmark_model.TOOL)
    seen = tool.read(tmp_path, Job(Path("m.tflite"), {}, runs=2), device=Device("d", {}), stopped="")
    assert seen.first_run_ns is None
    assert seen.samples_ns == (1_000_000, 1_000_000)
