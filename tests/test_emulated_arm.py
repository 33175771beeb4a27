"""ARM's own kernels, really run under emulation: they agree with the reference, and their counts repeat."""

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import onnx
import pytest
from conftest import Answer
from native_runs import threads_while_it_runs
from test_export import replace_file
from test_targets import job_of

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.errors import BadInputError, MissingError
from edgeattn.system.progress import Progress
from edgeattn.targets import Job
from edgeattn.targets._runner import fetch
from edgeattn.targets.emulated_arm import toolchain

Command = Callable[..., Answer]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def emulator() -> toolchain.Emulator:
    """Built in the user's cache if it is not there; where Debian's packages are missing, the skip names them."""
    if absent := toolchain._missing_packages():
        pytest.skip(absent)
    return toolchain.build()


def counted(job: Job, cpu: str = "cortex-a76") -> targets.Measurement:
    with targets.connect("emulated-arm", {"cpu": cpu}) as core:
        return core.run(job)


def test_qemu_is_the_one_that_was_fetched(emulator: toolchain.Emulator) -> None:
    """Whatever the machine has: nothing is looked for on PATH."""
    said = subprocess.run([*emulator.qemu, "--version"], env={}, capture_output=True, text=True, check=True).stdout
    assert said.split()[2].startswith("7.2.")
    assert emulator.versions["qemu-user"] in said


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("cpu", toolchain.CPUS)
def test_parity_on_every_core(cpu: str, edgeattn: Command, lean: Path) -> None:
    answer = edgeattn("parity", lean, "--target", "emulated-arm", "--cpu", cpu, "--json")
    assert answer.code == 0, answer.out
    rows = {row["runtime"] for row in answer.document["rows"] if row["hop"] == "conversion"}
    assert rows == {f"{runtime} on emulated-arm ({cpu})" for runtime in ("onnxruntime", "litert", "executorch")}
    assert any("does not run coreml" in entry["reason"] for entry in answer.document["not_run"])


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(("suffix", "tolerance"), [(".tflite", 0.0), (".pte", 0.0), (".onnx", 1e-2)])
def test_counts_repeat(suffix: str, tolerance: float, made_bundle: Path) -> None:
    job = job_of(made_bundle, suffix, runs=3, warmup=2)
    first, second = counted(job), counted(job)
    totals = [[count.total for count in seen.counts] for seen in (first, second)]
    assert [len(runs) for runs in totals] == [3, 3]
    # Python's worker has a run now and then that takes some thousand more: the median is what a report shows.
    one, two = (median(runs) for runs in totals)
    assert abs(one - two) <= tolerance * one
    assert tolerance or len({*totals[0], *totals[1]}) == 1
    for count in first.counts:
        assert count.total > count.simd > 0
        assert count.total > count.memory > 0
    assert (first.samples_ns, first.load_ns, first.first_run_ns, first.peak_memory_bytes) == ((), None, None, None)
    np.testing.assert_array_equal(first.first["y"], second.last["y"])


def test_the_count_is_that_of_the_code(emulator: toolchain.Emulator, tmp_path: Path) -> None:
    """A program whose instructions are known: a loop of eight, a thousand times."""
    source = tmp_path / "loop.c"
    source.write_text(
        "#include <sys/resource.h>\n"
        "int main(void) { static float v[4]; getpriority(0, 0x51510001);\n"
        '__asm__ volatile("mov x1, #1000\\n1: ldr q0, [%0]\\n fmul v0.4s, v0.4s, v0.4s\\n fadd v0.4s, v0.4s, v0.4s\\n'
        ' str q0, [%0]\\n nop\\n nop\\n subs x1, x1, #1\\n b.ne 1b" :: "r"(v) : "x1", "v0", "memory", "cc");\n'
        "getpriority(0, 0x51510002); return 0; }\n"
    )
    program, out = tmp_path / "loop", tmp_path / "counts.txt"
    subprocess.run(["aarch64-linux-gnu-gcc", "-O1", "-static", source, "-o", program], check=True)
    subprocess.run([*emulator.command("cortex-a53", plugin=f"out={out}"), program], check=True)
    total, simd, memory = map(int, out.read_text().split())
    # The calls around the loop take some too.
    assert 8000 <= total < 8100
    assert 2000 <= simd < 2010
    assert 2000 <= memory < 2050


@pytest.mark.usefixtures("emulator")
def test_more_work_counts_more(made_bundle: Path, tmp_path: Path) -> None:
    job = job_of(made_bundle, ".onnx", runs=1, warmup=2)
    model = onnx.load(job.artifact)
    last = model.graph.node[-1]
    last.output[0] = "before"
    model.graph.node.append(onnx.helper.make_node("Softplus", ["before"], ["y"]))
    heavier = tmp_path / "heavier.onnx"
    onnx.save(model, heavier)
    less, more = counted(job), counted(Job(heavier, job.inputs, warmup=2, runs=1))
    # 2048 elements, some tens of instructions each.
    assert more.counts[0].total > less.counts[0].total + 20_000


@pytest.mark.usefixtures("emulator")
def test_cores_run_other_kernels(made_bundle: Path) -> None:
    job = job_of(made_bundle, ".tflite", runs=1, warmup=1)
    assert counted(job, "cortex-a53").counts != counted(job, "cortex-a76").counts


@pytest.mark.usefixtures("emulator")
def test_parity_sees_a_broken_artifact(edgeattn: Command, lean: Path) -> None:
    model = onnx.load(lean / "attention-fp32.onnx")
    key = next(node.input[1] for node in model.graph.node if node.op_type == "Conv")
    weight = next(t for t in model.graph.initializer if t.name == key)
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * np.float32(1.01), weight.name))
    replace_file(lean, "attention-fp32.onnx", model.SerializeToString())
    answer = edgeattn("parity", lean, "--target", "emulated-arm", "--json")
    assert answer.code == 1
    assert {row["candidate"] for row in answer.document["rows"] if not row["passed"]} == {"attention-fp32.onnx"}
    replace_file(lean, "attention-fp32.tflite", b"rubbish")
    answer = edgeattn("parity", lean, "--target", "emulated-arm")
    assert answer.code == 2
    assert "LiteRT refuses the file" in answer.err


@pytest.mark.usefixtures("emulator")
def test_profile_writes_a_record(edgeattn: Command, made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, "--target", "emulated-arm", "--runs", 2, "--warmup", 1, "--out", out)
    assert answer.code == 0, answer.err
    assert "Instructions of one run, median" in answer.out
    assert "ms" not in answer.out.split()
    for record in records.load(out).records:
        assert (record.origin, record.target, record.warmup, record.samples_ns) == ("emulated", "emulated-arm", 1, ())
        assert record.device.details["cpu"] == "cortex-a76"
        assert len(record.counts) == 2


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--target", "emulated-arm", "--cpu", "m1"), "there is no core 'm1'; choose from cortex-a53"),
        (("--target", "emulated-arm", "--threads", "2"), "counts one thread only"),
        (("--target", "emulated-arm:phone"), "takes no address"),
    ],
)
def test_what_it_refuses(arguments: tuple[str, ...], said: str, edgeattn: Command, made_bundle: Path) -> None:
    answer = edgeattn("profile", made_bundle, *arguments)
    assert answer.code == 2
    assert said in answer.err


def test_the_two_runners_agree(emulator: toolchain.Emulator, made_bundle: Path, tmp_path: Path) -> None:
    """The native one, with nothing but what lies in its folder: the same outputs, to the last bit."""
    job = job_of(made_bundle, ".tflite", runs=2)
    native = counted(job)
    with targets.connect("emulated-arm", {}) as core:
        worker = core.run(job, blocks=tmp_path / "blocks.txt")
    np.testing.assert_array_equal(native.first["y"], worker.first["y"])
    np.testing.assert_array_equal(native.last["y"], worker.last["y"])
    assert (native.runtime, native.runtime_version) == (worker.runtime, worker.runtime_version)
    # Python's own call costs some thousands.
    assert 0 < worker.counts[0].total - native.counts[0].total < 20_000
    needed = subprocess.run(
        ["aarch64-linux-gnu-readelf", "-d", *(emulator.native / "litert").iterdir()],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    needs = {line.split("[")[1].rstrip("]") for line in needed.splitlines() if "NEEDED" in line}
    assert needs <= {file.name for file in emulator.native.glob("*/*")}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("runtime", "suffix"), [("litert", ".tflite"), ("executorch", ".pte")])
def test_the_native_runner_honours_threads(
    runtime: str, suffix: str, threads: int, emulator: toolchain.Emulator, made_bundle: Path, tmp_path: Path
) -> None:
    job = job_of(made_bundle, suffix, runs=10**9, threads=threads)
    assert threads_while_it_runs([*emulator.runner("cortex-a76", runtime)], tmp_path, job) == threads + 1


@pytest.mark.usefixtures("emulator")
def test_the_native_runner_refuses(made_bundle: Path) -> None:
    job = job_of(made_bundle, ".tflite")
    x = job.inputs["x"]
    for given, said in (
        ({"z": x}, "takes x, which is not given"),
        ({"x": x, "z": x}, "takes 1 inputs, not 2"),
        ({"x": x[:, :1]}, "another shape"),
        ({"x": x.astype(np.float64)}, "must be of type <f4"),
    ):
        with pytest.raises(BadInputError, match=said):
            counted(Job(job.artifact, given))


def test_without_the_set_up(
    edgeattn: Command, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "PACKAGES", {})
    answer = edgeattn("parity", made_bundle, "--target", "emulated-arm")
    assert answer.code == 3
    assert "run: edgeattn setup emulated-arm" in answer.err
    monkeypatch.setattr(toolchain, "PACKAGES", {"nosuch-package": "nosuch-program", "gcc": "sh"})
    for command in (("parity", made_bundle, "--target", "emulated-arm"), ("setup", "emulated-arm")):
        answer = edgeattn(*command)
        assert answer.code == 3
        assert "apt-get install -y nosuch-package\n" in answer.err
    assert not list(tmp_path.iterdir())


def test_a_set_up_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if absent := toolchain._missing_packages():
        pytest.skip(absent)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "ARM_PACKAGES", ("nosuch-package",))
    with pytest.raises(MissingError, match=r"failed at fetching Debian's arm64 packages: .*nosuch-package"):
        toolchain.build()
    assert [p.name for p in (tmp_path / "edgeattn" / "emulated-arm").iterdir()] == ["lock"]


def test_the_pins_are_those_of_the_project() -> None:
    locked = set((ROOT / "requirements.txt").read_text().split())
    pinned = [line.split()[0] for line in fetch.data("requirements.txt").read_text().splitlines() if "==" in line]
    assert len(pinned) == 4
    assert set(pinned) <= locked
    listed = set((ROOT / "packages.txt").read_text().split())
    assert set(toolchain.PACKAGES) - {"apt", "dpkg"} <= listed
    versions = dict(pin.split("==") for pin in pinned)
    assert f'LITERT_VERSION "{versions["ai-edge-litert"]}"' in fetch.data("litert.h").read_text()
    assert f'EXECUTORCH_VERSION "{versions["executorch"]}"' in fetch.data("executorch.cc").read_text()


def test_of_two_set_ups_at_once_one_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Path] = []

    def build(folder: Path, progress: Progress) -> None:
        built.append(folder)
        time.sleep(0.3)

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(toolchain, "_missing_packages", lambda: None)
    monkeypatch.setattr(toolchain, "_build", build)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(lambda _: toolchain.build(), range(3)))
    assert len(built) == 1
    assert found[0] == found[1] == found[2] == toolchain.ready()
    assert {p.name for p in found[0].folder.parent.iterdir()} == {"lock", found[0].folder.name}
