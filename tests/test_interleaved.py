"""Both runners: several jobs A B A B, each in a process of its own; and the warm-up that goes on until times settle."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain, cycle, repeat
from pathlib import Path

import numpy as np
import pytest
from test_targets import HERE, job_of

from edgeattn import targets
from edgeattn.errors import ArtifactError
from edgeattn.targets import Job
from edgeattn.targets._runner import fetch, job_folder, worker

MS = 1_000_000
Runner = list[str | Path]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """The native runner of LiteRT, built for this machine."""
    if not shutil.which("gcc"):
        pytest.skip("gcc is not installed; apt-get install -y gcc libc6-dev")
    import ai_edge_litert

    library = Path(ai_edge_litert.__file__).parent
    runner = tmp_path_factory.mktemp("native") / "runner"
    sources = map(fetch.data, ("runner.c", "job.c", "litert.c"))
    flags = ("-O1", "-Wall", "-Wextra", "-Werror", f"-L{library}", "-lLiteRt", f"-Wl,-rpath,{library}")
    subprocess.run(["gcc", *sources, "-o", runner, *flags], check=True)
    return [runner]


@pytest.fixture(params=["onnxruntime", "litert", "executorch", "native", "native_onnxruntime", "native_executorch"])
def way(request: pytest.FixtureRequest) -> tuple[Runner, str]:
    """A runner, and the suffix of what it runs."""
    runtime = request.param.removeprefix("native").removeprefix("_")
    suffix = {"onnxruntime": ".onnx", "executorch": ".pte"}.get(runtime, ".tflite")
    if request.param.startswith("native"):
        return request.getfixturevalue(request.param), suffix
    program = ["-m", "edgeattn.targets._host_worker"] if runtime == "executorch" else [job_folder.WORKER]
    return [sys.executable, *program], suffix


def read(folders: list[Path], jobs: list[Job], stopped: str) -> list[targets.Measurement]:
    return [
        job_folder.read(folder, job, origin="host", device=HERE, stopped=stopped)
        for folder, job in zip(folders, jobs, strict=True)
    ]


def running(runner: Runner, folders: list[Path], *, at_least: int) -> subprocess.Popen[bytes]:
    """The runner, started, and every job at so many samples."""
    process = subprocess.Popen([*runner, *folders], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not all((f / "samples.txt").exists() and _count(f) >= at_least for f in folders):
        time.sleep(0.01)
        assert process.poll() is None
    return process


def _count(folder: Path) -> int:
    return len((folder / "samples.txt").read_text().splitlines())


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_alone_and_in_turn_give_the_same(way: tuple[Runner, str], made_bundle: Path, tmp_path: Path) -> None:
    runner, suffix = way
    job = job_of(made_bundle, suffix, runs=6, warmup=3)
    jobs = [job, replace(job, runs=4), job]
    folders = job_folder.write_each(tmp_path, jobs)
    stopped = job_folder.start([*runner, *folders], environment=os.environ)
    seen = read(folders, jobs, stopped)
    assert [len(one.samples_ns) for one in seen] == [6, 4, 6]
    for one in seen:
        assert (one.stopped, one.warmup, one.untrusted) == ("", 3, ())
        assert min(one.warmup_ns or 0, one.load_ns or 0, one.peak_memory_bytes or 0) > 0
        np.testing.assert_array_equal(one.last["y"], seen[0].first["y"])


def test_samples_are_taken_in_turn(way: tuple[Runner, str], made_bundle: Path, tmp_path: Path) -> None:
    """Wherever it is stopped, neither is ahead by more than one; and none of the processes is left."""
    runner, suffix = way
    folders = job_folder.write_each(tmp_path, [job_of(made_bundle, suffix, runs=10**9, warmup=0)] * 2)
    process = running(runner, folders, at_least=3)
    left = children(process.pid)
    assert len(left) == 2
    process.kill()
    process.communicate()
    until = time.monotonic() + 30
    while any(Path(f"/proc/{pid}").exists() for pid in left):
        assert time.monotonic() < until
        time.sleep(0.01)
    first, second = map(_count, folders)
    assert 0 <= first - second <= 1


def test_a_crash_leaves_the_others_their_turns(way: tuple[Runner, str], made_bundle: Path, tmp_path: Path) -> None:
    runner, suffix = way
    jobs = [job_of(made_bundle, suffix, runs=runs, warmup=0) for runs in (10**9, 200)]
    folders = job_folder.write_each(tmp_path, jobs)
    process = running(runner, folders, at_least=1)
    os.kill(children(process.pid)[0], signal.SIGSEGV)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"the run in {folders[0]} was ended by signal 11" in said.decode()
    crashed, other = read(folders, jobs, "it crashed")
    assert crashed.stopped.startswith("it crashed, after")
    assert (other.stopped, len(other.samples_ns)) == ("", 200)


def test_one_that_is_refused_leaves_the_others_their_turns(
    way: tuple[Runner, str], made_bundle: Path, tmp_path: Path
) -> None:
    runner, suffix = way
    broken = tmp_path / f"broken{suffix}"
    broken.write_bytes(b"rubbish")
    job = job_of(made_bundle, suffix, runs=3)
    jobs = [replace(job, artifact=broken), job]
    folders = job_folder.write_each(tmp_path, jobs)
    stopped = job_folder.start([*runner, *folders], environment=os.environ)
    with pytest.raises(ArtifactError, match="refuses the file"):
        read(folders[:1], jobs[:1], stopped)
    assert len(read(folders[1:], jobs[1:], stopped)[0].samples_ns) == 3


def test_memory_is_that_of_each_alone(made_bundle: Path) -> None:
    small = job_of(made_bundle, ".tflite", runs=3, warmup=0)
    large = job_of(made_bundle, ".onnx", runs=3, warmup=0)
    with targets.connect("host", {}) as host:
        alone = host.run(small).peak_memory_bytes
        together = host.run_interleaved([large, small])[1].peak_memory_bytes
    assert alone
    assert together == pytest.approx(alone, rel=0.1)


def test_times_by_operator(made_bundle: Path, tmp_path: Path) -> None:
    job = replace(job_of(made_bundle, ".onnx", runs=3, warmup=1), operators=True)
    folders = job_folder.write_each(tmp_path, [job])
    (seen,) = read(
        folders, [job], job_folder.start([sys.executable, job_folder.WORKER, *folders], environment=os.environ)
    )
    kinds = [operator.kind for operator in seen.operators]
    assert kinds.count("Softmax") == 1
    assert kinds.count("Conv") == 3
    assert all(operator.median_ns >= 0 for operator in seen.operators)
    assert "profiler" in seen.operators_note
    assert not list(folders[0].glob("profile*"))


@pytest.mark.parametrize("way", ["litert", "native"], indirect=True)
def test_times_of_the_kernels_of_litert(way: tuple[Runner, str], made_bundle: Path, tmp_path: Path) -> None:
    runner, suffix = way
    job = replace(job_of(made_bundle, suffix, runs=3, warmup=1), operators=True)
    folders = job_folder.write_each(tmp_path, [job, job])
    for seen in read(folders, [job, job], job_folder.start([*runner, *folders], environment=os.environ)):
        kinds = [operator.kind for operator in seen.operators]
        assert sum("Softmax" in kind for kind in kinds) == 1
        assert sum("Fully Connected" in kind for kind in kinds) == 3
        assert all(operator.median_ns >= 0 for operator in seen.operators)
        assert "under LiteRT's profiler" in seen.operators_note


def test_a_runtime_without_times_by_operator_says_so(made_bundle: Path, tmp_path: Path) -> None:
    """The worker alone, as an old board has it: without the file that calls the profiler."""
    job = replace(job_of(made_bundle, ".tflite", runs=3, warmup=1), operators=True)
    (folder,) = job_folder.write_each(tmp_path, [job])
    alone = shutil.copy(job_folder.WORKER, tmp_path)
    (seen,) = read([folder], [job], job_folder.start([sys.executable, alone, folder], environment=os.environ))
    assert (seen.operators, len(seen.samples_ns), seen.stopped) == ((), 3, "")
    assert "no time by operator" in seen.operators_note


def test_a_warm_up_until_times_settle(way: tuple[Runner, str], made_bundle: Path, tmp_path: Path) -> None:
    runner, suffix = way
    job = replace(job_of(made_bundle, suffix, runs=3), warmup=None)
    folders = job_folder.write_each(tmp_path, [job])
    (seen,) = read(folders, [job], job_folder.start([*runner, *folders], environment=os.environ))
    assert seen.warmup >= 2 * worker.WINDOW_CALLS
    assert (seen.warmup_ns or 0) >= 2 * worker.WINDOW_NS


class Clock:
    """A clock that stands but for the calls of ``run``, which take the given times."""

    def __init__(self, times: Iterator[int]) -> None:
        self.now, self.times = 0, times

    def perf_counter_ns(self) -> int:
        return self.now

    def run(self) -> None:
        self.now += next(self.times)


@pytest.mark.parametrize(
    ("times", "calls", "settled"),
    [
        (repeat(30 * MS), 10, True),  # five calls are longer than a window
        (repeat(1 * MS), 200, True),  # and here a window is 100 ms
        (chain(repeat(60 * MS, 5), repeat(40 * MS, 5), repeat(30 * MS)), 20, True),
        (cycle([*[30 * MS] * 5, *[40 * MS] * 5]), 290, False),  # 10 s, and two windows never alike
        (repeat(1), 100_000, False),
        (repeat(20_000 * MS), 5, False),
    ],
)
def test_the_rule_of_the_warm_up(
    times: Iterator[int], calls: int, settled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(times)
    monkeypatch.setattr(worker, "time", clock)
    assert worker.warm_up(clock.run) == (calls, settled)


def test_a_warm_up_that_never_settles_is_told(made_bundle: Path, tmp_path: Path) -> None:
    job = job_of(made_bundle, ".onnx", runs=1)
    (tmp_path / "result.json").write_text(
        '{"complete": true, "runtime": "x", "runtime_version": "1", "load_ns": 1, "outputs": [], "warmup": 290,'
        ' "warmup_ns": 10000000000, "settled": false}'
    )
    seen = job_folder.read(tmp_path, job, origin="host", device=HERE, stopped="")
    assert seen.untrusted == ("the times had not settled after 290 runs, 10 s of warm-up",)
