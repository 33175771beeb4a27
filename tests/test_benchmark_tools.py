"""The user's own benchmark tools: what they print, as their sources write it, and whole runs over adb with stand-ins.

A stand-in is a program for arm64 that prints the format of the real one: benchmark_model (tensorflow/lite/tools/
benchmark), onnxruntime_perf_test (onnxruntime/test/perftest). The real ones come in no package.
"""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attached import Attach, left_on
from conftest import Answer
from test_targets import job_of

from edgeattn import targets
from edgeattn.bundle import records
from edgeattn.bundle.records import Device
from edgeattn.errors import BadInputError, TargetError
from edgeattn.targets import Job
from edgeattn.targets.android import benchmark_model, benchmark_tools
from edgeattn.targets.android import onnxruntime_perf_test as _onnxruntime_perf_test

Command = Callable[..., Answer]
JOB = Job(Path("a.tflite"), {}, warmup=5, runs=2)

# One start of benchmark_model with one measured run.
START = """INFO: STARTING!
INFO: Log parameter values verbosely: [0]
INFO: Min num runs: [1]
INFO: Min runs duration (seconds): [0]
INFO: Num threads: [1]
INFO: Min warmup runs: [5]
INFO: Min warmup runs duration (seconds): [0]
INFO: Graph: [../../artifact-0.tflite]
INFO: Use xnnpack: [1]
INFO: Loaded model ../../artifact-0.tflite
INFO: Created TensorFlow Lite XNNPACK delegate for CPU.
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: The input model file size (MB): 24.6229
INFO: Initialized session in 119.515ms.
INFO: Running benchmark for at least 5 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=5 first=87112 curr=51629 min=51629 max=87112 avg=58147.4 std=11478 p5=51629 median=51962 p95=87112

INFO: Running benchmark for at least 1 iterations and at least 0 seconds but terminate if exceeding 150 seconds.
INFO: count=1 curr=51203

INFO: Inference timings in us: Init: 119515, First inference: 87112, Warmup (avg): 58147.4, Inference (avg): 51203
INFO: Note: as the benchmark tool itself affects memory footprint, the following is only APPROXIMATE to the actual \
memory footprint of the model at runtime. Take the information at your discretion.
INFO: Memory footprint delta from the start of the tool (MB): init=55.4961 overall=55.4961
"""
# The same of 2020, without a mark of the level, and without percentiles.
OLD_START = START.replace("INFO: ", "").replace(" p5=51629 median=51962 p95=87112", "")
PROFILED = """INFO: Overall peak memory footprint (MB) via periodic monitoring: 61.25
INFO: Memory status at the end of exeution:
INFO: - VmRSS              : 62 MB
INFO: Profiling Info for Benchmark Initialization:
============================== Run Order ==============================
\t             [node type]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\t         AllocateTensors\t    0.041\t    0.041\t100.000%\t100.000%\t     0.000\t        1\tAllocateTensors/0

INFO: Operator-wise Profiling Info for Regular Benchmark Runs:
============================== Run Order ==============================
\t             [node type]\t     [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\tFully Connected (NC, F32) GEMM\t            0.000\t    4.269\t    4.125\t 60.000%\t 60.000%\t     0.000\t        1\t\
Delegate/Fully Connected (NC, F32) GEMM:0
\t               TRANSPOSE\t            4.270\t    2.150\t    2.750\t 40.000%\t100.000%\t     0.000\t        1\t\
[attention/permute]:1

============================== Top by Computation Time ==============================
\t             [node type]\t     [start]\t  [first]\t [avg ms]\t     [%]\t  [cdf%]\t  [mem KB]\t[times called]\t[Name]
\tFully Connected (NC, F32) GEMM\t            0.000\t    4.269\t    4.125\t 60.000%\t 60.000%\t     0.000\t        1\t\
Delegate/Fully Connected (NC, F32) GEMM:0

Number of nodes executed: 2
============================== Summary by node type ==============================
\t             [Node type]\t  [count]\t  [avg ms]\t    [avg %]\t    [cdf %]\t  [mem KB]\t[times called]
\t               TRANSPOSE\t        1\t     2.750\t    40.000%\t   100.000%\t     0.000\t        1

Timings (microseconds): count=20 first=6419 curr=6875 min=6400 max=6900 avg=6875 std=12
Memory (bytes): count=0
2 nodes observed
"""
PERF_TEST = """Setting intra_op_num_threads to 1
Setting inter_op_num_threads to 1
Session creation time cost: 0.0123456 s
First inference time cost: 5 ms
Total inference time cost: 0.0310251 s
Total inference requests: 6
Average inference time cost: 5.17085 ms
Total inference run time: 0.0310812 s
Number of inferences per second: 193.043
Avg CPU usage: 98 %
Peak working set size: 34603008 bytes
"""
RESULTS = "".join(f"edgeattn-1,{seconds},34603008,98,{run}\n" for run, seconds in enumerate(
    ("0.00612", "0.00551", "0.00502", "0.00501", "0.0049876", "0.00505")))  # fmt: skip


def test_how_benchmark_model_is_started() -> None:
    job = Job(JOB.artifact, {}, warmup=4, runs=7, threads=2, operators=True)
    once = benchmark_model.TOOL.once(job, 4, "./b", "../a.tflite", starts=7)
    after = benchmark_model.TOOL.after(job, "./b", "../a.tflite")
    for line in (once, after):
        assert "./b --graph=../a.tflite --num_threads=2 --use_xnnpack=true --min_secs=0 --warmup_min_secs=0 " in line
    assert "--warmup_runs=4 --num_runs=1 " in once
    # What disturbs the times is asked for in a start of its own.
    assert "profiling" not in once
    assert "report_peak_memory_footprint" not in once
    assert "--report_peak_memory_footprint=true --enable_op_profiling=true" in after


def test_how_onnxruntime_perf_test_is_started() -> None:
    job = Job(JOB.artifact, {}, warmup=4, runs=25, threads=2, operators=True)
    alone, with_others = (
        _onnxruntime_perf_test.TOOL.starts(job, interleaved=interleaved) for interleaved in (False, True)
    )
    assert (alone, with_others) == (1, 10)
    line = _onnxruntime_perf_test.TOOL.once(job, 4, "./p", "../a.onnx", starts=10)
    setting, _, command = line.partition(" ")
    assert setting == "ORT_DISABLE_TELEMETRY=1"
    assert command == "./p -e cpu -m times -x 2 -y 1 -I -S 1 -r 6 ../a.onnx result.csv >>out.txt 2>&1"
    assert "-p profile" in _onnxruntime_perf_test.TOOL.after(job, "./p", "../a.onnx")


@pytest.mark.parametrize("start", [START, OLD_START])
def test_benchmark_model(start: str, tmp_path: Path) -> None:
    other = start.replace("count=1 curr=51203", "count=1 curr=50111")
    (tmp_path / "out.txt").write_text(f"== start\n{start}== start\n{other}")
    seen = benchmark_model.TOOL.parse(tmp_path, JOB, 5)
    assert seen.samples_ns == (51_203_000, 50_111_000)
    assert (seen.load_ns, seen.first_run_ns, seen.clock_step_ns) == (119_515_000, 87_112_000, 1000)
    assert (seen.operators, seen.operators_note, seen.peak_memory_bytes) == ((), "", None)


def test_times_by_operator_of_benchmark_model(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text(f"== start\n{START}")
    (tmp_path / "operators.txt").write_text(START + PROFILED)
    seen = benchmark_model.TOOL.parse(tmp_path, Job(JOB.artifact, {}, operators=True), 5)
    gemm, transpose = seen.operators
    assert (gemm.kind, gemm.name) == ("Fully Connected (NC, F32) GEMM", "Delegate/Fully Connected (NC, F32) GEMM:0")
    assert (gemm.median_ns, gemm.layout) == (4_125_000, False)
    assert (transpose.name, transpose.median_ns, transpose.layout) == ("[attention/permute]:1", 2_750_000, True)
    assert "means, not medians" in seen.operators_note
    assert seen.peak_memory_bytes == round(61.25 * 2**20)


def test_no_sample_is_made_of_a_sum(tmp_path: Path) -> None:
    """Of several runs only the sum is told: that is no sample."""
    several = START.replace(
        "count=1 curr=51203", "count=2 first=51000 curr=51406 min=51000 max=51406 avg=51203 std=203"
    )
    (tmp_path / "out.txt").write_text(f"== start\n{several}")
    assert benchmark_model.TOOL.parse(tmp_path, JOB, 5).samples_ns == ()


def test_onnxruntime_perf_test(tmp_path: Path) -> None:
    (tmp_path / "result.csv").write_text(RESULTS)
    (tmp_path / "out.txt").write_text(PERF_TEST)
    seen = _onnxruntime_perf_test.TOOL.parse(tmp_path, JOB, 5)
    # The first four belong to the warm-up; its first run the tool leaves out by itself.
    assert seen.samples_ns == (4_987_600, 5_050_000)
    (tmp_path / "result.csv").write_text(RESULTS * 2 + RESULTS[:30])
    assert len(_onnxruntime_perf_test.TOOL.parse(tmp_path, Job(JOB.artifact, {}, runs=4), 5).samples_ns) == 4
    assert (seen.load_ns, seen.peak_memory_bytes, seen.first_run_ns) == (12_345_600, 34_603_008, None)


def test_times_by_operator_of_onnxruntime(tmp_path: Path) -> None:
    """Here the profile is onnxruntime's own, of a real run."""
    import numpy as np
    import onnx
    import onnxruntime

    nodes = [onnx.helper.make_node("Transpose", ["x"], ["t"], "turn"), onnx.helper.make_node("Relu", ["t"], ["y"], "r")]
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        nodes, "g", [value("x", onnx.TensorProto.FLOAT, [8, 9])], [value("y", onnx.TensorProto.FLOAT, [9, 8])]
    )
    options = onnxruntime.SessionOptions()
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "profile")
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    for _ in range(5):
        session.run(None, {"x": np.ones((8, 9), np.float32)})
    written = Path(session.end_profiling())
    seen = _onnxruntime_perf_test.TOOL.parse(tmp_path, Job(JOB.artifact, {}, operators=True), 1)
    assert [(found.name, found.kind, found.layout) for found in seen.operators] == [
        ("turn", "Transpose", True),
        ("r", "Relu", False),
    ]
    events = json.loads(written.read_text())
    relu = sorted(event["dur"] for event in events if event["name"] == "r_kernel_time")
    assert seen.operators[1].median_ns == relu[2] * 1000


# What the stand-ins do with their arguments is all that is ours: they print what is above, or fail as the real ones do.
STAND_IN = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static const char start[] = %s, profiled[] = %s, perf[] = %s;
int main(int argc, char **argv)
{
    int runs = 0, seen = 0;
    char folder[200];
    FILE *out = fopen("/data/starts", "a");
    fprintf(out, "%%s\\n", strrchr(getcwd(folder, sizeof folder), '/') + 1);
    fclose(out);
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "-r"))
            runs = atoi(argv[i + 1]);
        if (strstr(argv[i], "artifact"))
            seen = 1;
    }
    if (!seen) {
        puts("ERROR: Failed to load model");
        return 1;
    }
    if (!runs) {
        fputs(start, stdout);
        if (strstr(argv[argc - 1], "profiling"))
            fputs(profiled, stdout);
        return 0;
    }
    fputs(perf, stdout);
    out = fopen("result.csv", "a");
    for (int i = 0; i < runs; i++)
        fprintf(out, "edgeattn-1,0.00%%d,34603008,98,%%d\\n", 500 + i, i);
    fclose(out);
    return 0;
}
"""


@pytest.fixture(scope="module")
def stand_in(base_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tools")
    source = folder / "stand_in.c"
    source.write_text(STAND_IN % tuple(json.dumps(text) for text in (START, PROFILED, PERF_TEST)))
    tool = folder / "android_aarch64_benchmark_model"
    subprocess.run(["aarch64-linux-gnu-gcc", "-static", "-o", tool, source], check=True)
    (folder / "onnxruntime_perf_test").hardlink_to(tool)
    return folder


@pytest.mark.parametrize(
    ("tool", "name", "p50_ns"),
    [
        ("android_aarch64_benchmark_model", "benchmark_model", 51_203_000),
        ("onnxruntime_perf_test", "onnxruntime_perf_test", 5_050_000),
    ],
)
def test_over_adb(
    tool: str,
    name: str,
    p50_ns: int,
    stand_in: Path,
    attach: Attach,
    edgeattn: Command,
    made_bundle: Path,
    tmp_path: Path,
) -> None:
    phone = attach()
    arguments = ("--target", "android", "--runner", stand_in / tool, "--cores", "4-7", "--runs", 3, "--warmup", 2)
    answer = edgeattn("profile", made_bundle, *arguments, "--out", tmp_path / "r.json")
    assert answer.code == 0, answer.err
    found = {record.runtime: record for record in records.load(tmp_path / "r.json").records}
    record = found[name]
    assert len(record.samples_ns) == 3
    assert record.samples_ns[0] // 1_000_000 == p50_ns // 1_000_000
    assert record.runtime_version.startswith("sha256 ")
    assert (record.warmup, record.partial) == (2, False)
    # The other format goes on with our own runner.
    assert ("litert" in found) is (name == "onnxruntime_perf_test")
    assert (phone.root / "data/taskset").read_text().split()[0] == "f0"
    assert left_on(phone) == []


@pytest.mark.parametrize(("tool", "suffix"), [("android_aarch64_benchmark_model", ".tflite"),
                                              ("onnxruntime_perf_test", ".onnx")])  # fmt: skip
def test_two_in_turn(tool: str, suffix: str, stand_in: Path, attach: Attach, made_bundle: Path) -> None:
    phone = attach()
    job = job_of(made_bundle, suffix, runs=11, warmup=2)
    with targets.connect("android", {"runner": str(stand_in / tool)}) as connection:
        first, second = connection.run_interleaved((job, job))
    assert len(first.samples_ns) == len(second.samples_ns) == 11
    assert (first.stopped, first.first, first.last) == ("", {}, {})
    turns = [line.split()[0] for line in (phone.root / "data/starts").read_text().splitlines()]
    assert turns[:6] == ["0", "1"] * 3


def test_times_by_operator_over_adb(stand_in: Path, attach: Attach, made_bundle: Path) -> None:
    attach()
    job = job_of(made_bundle, ".tflite", runs=1, warmup=1)
    with targets.connect("android", {"runner": str(stand_in / "android_aarch64_benchmark_model")}) as connection:
        (seen,) = connection.run_interleaved([Job(job.artifact, job.inputs, warmup=1, runs=1, operators=True)])
    assert [operator.layout for operator in seen.operators] == [False, True]
    assert seen.peak_memory_bytes == round(61.25 * 2**20)


@pytest.mark.parametrize(
    ("out", "stopped", "said"),
    [
        ("== start\nERROR: Failed to load model ../../artifact-0.tflite\n", "exit code 1", "Failed to load model"),
        ("", "it was ended by SIGSEGV", "it was ended by SIGSEGV"),
        ("== start\n\0\1rubbish", "", "rubbish"),
    ],
)
def test_a_tool_that_measures_nothing(out: str, stopped: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text(out)
    with pytest.raises(TargetError, match=said):
        tool_of("benchmark_model", tmp_path).read(tmp_path, JOB, device=Device("X", {}), stopped=stopped)


def test_a_result_file_of_rubbish(tmp_path: Path) -> None:
    (tmp_path / "result.csv").write_text("a,b,c,d,e\n")
    with pytest.raises(TargetError, match="wrote what cannot be read"):
        tool_of("onnxruntime_perf_test", tmp_path).read(tmp_path, JOB, device=Device("X", {}), stopped="")


def test_a_tool_that_stops_early(tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text(f"== start\n{START}== start\nINFO: STARTING!\n")
    seen = tool_of("benchmark_model", tmp_path).read(tmp_path, JOB, device=Device("X", {}), stopped="exit code 1")
    assert seen.samples_ns == (51_203_000,)
    assert seen.stopped == "exit code 1, after 1 of 2 runs"


def tool_of(name: str, folder: Path) -> benchmark_tools.Tool:
    path = folder / name
    path.write_bytes(b"\x7fELF" + bytes(14) + b"\xb7\x00")
    return benchmark_tools.find(path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("other", b"", "is none of benchmark_model and onnxruntime_perf_test"),
        ("benchmark_model", None, "cannot be read"),
        ("benchmark_model", b"\x7fELF" + bytes(14) + b"\x3e\x00", "is no program for arm64"),
    ],
)
def test_files_that_are_no_tool(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInputError, match=said):
        benchmark_tools.find(tmp_path / name)
