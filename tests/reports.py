"""Records of every kind that a report has to show, made up and the same every time."""

from dataclasses import replace

import numpy as np

from edgeattn.bundle.records import Counts, Device, Likeness, NotRun, Operator, Record, Subject
from edgeattn.report.content import Accuracy, Content, Depths, Judged
from edgeattn.report.pictures.attention import Attention
from edgeattn.report.pictures.depth import Curve

ONNX = Subject("mobilevitv2-fp32.onnx", "a" * 64, 20_000_000, "onnx", "fp32", 0)
TFLITE = Subject("mobilevitv2-fp32.tflite", "b" * 64, 20_100_000, "tflite", "fp32", 0)
SAME = Likeness(True, "", 3.2, 1.4, 118.0)
OTHER = Likeness(False, "error is 412 (max), 120 (RMS) times the noise floor", 412.0, 120.0, 61.0)


def samples(median_ms: float, n: int = 200, *, throttled: float = 1.0) -> tuple[int, ...]:
    """Times with a tail; from two thirds on ``throttled`` times as long."""
    random = np.random.default_rng(int(median_ms * 1000))
    values = median_ms * 1e6 * (1 + random.gamma(2, 0.01, n))
    values[2 * n // 3 :] *= throttled
    return tuple(int(value) for value in values)


HOST = Record(
    model="mobilevitv2",
    subject=ONNX,
    target="host",
    origin="host",
    device=Device("workstation", {"machine": "x86_64", "system": "Linux 6.1"}),
    runtime="onnxruntime",
    runtime_version="1.31.1",
    versions={"edgeattn": "0.1.0", "torch": "2.13.0"},
    threads=1,
    warmup=12,
    warmup_ns=240_000_000,
    samples_ns=samples(20.3),
    clock_step_ns=1,
    load_ns=54_000_000,
    first_run_ns=31_000_000,
    peak_memory_bytes=150 << 20,
    started_at="2026-11-25T00:30:00Z",
    group="g1",
    operators=(
        Operator("conv_0", "Conv", "stem.0", 9_000_000),
        Operator("conv_1", "Conv", "stages.2.1.local.1", 6_500_000),
        Operator("mul_0", "Mul", "stages.2.1.layers.0.attention", 2_100_000),
        Operator("softmax_0", "Softmax", "stages.2.1.layers.0.attention", 900_000),
        Operator("reorder_0", "ReorderInput", "", 700_000, layout=True),
        Operator("gemm", "Gemm", "classifier", 300_000),
    ),
    parity=SAME,
    command="edgeattn profile m --out records.json",
)
HOST_TFLITE = replace(
    HOST, subject=TFLITE, runtime="litert", runtime_version="2.3.0", samples_ns=samples(18.7),
    load_ns=10_000_000, operators=(), operators_note="LiteRT gives no time by operator in its Python API",
)  # fmt: skip
PHONE = replace(
    HOST_TFLITE, target="android:R58M", origin="phone", device=Device("Pixel 8", {"soc": "Tensor G3"}), group="",
    samples_ns=samples(9.4, throttled=1.4), before={"temperature": "31 °C"}, after={"temperature": "43 °C"},
    untrusted=("the second half is 40 % slower than the first: the device throttles",),
)  # fmt: skip
EMULATED = replace(
    HOST, target="emulated-arm", origin="emulated", device=Device("cortex-a76, QEMU 7.2", {}), group="",
    samples_ns=(), load_ns=None, first_run_ns=None, warmup_ns=None, operators=(), clock_step_ns=None,
    counts=(Counts(697_538_764, 463_204_469, 121_432_524),) * 3,
)  # fmt: skip
NOT_RUN = NotRun("mobilevitv2-fp32.mlpackage", "host", "host does not run coreml")


def content() -> Content:
    """A report with everything in it."""
    ramp = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
    scores = np.zeros((8, 8), np.float32)
    scores[1, 6] = 1
    return Content(
        records=(HOST, HOST_TFLITE, PHONE, EMULATED),
        not_run=(NOT_RUN,),
        judged=(
            Judged("mobilevitv2", ONNX.artifact, ONNX.sha256, 20_000_000, "onnxruntime", True, "", 11, "zeros, y", 3.1,
                   118.0),
        ),
        accuracy=(Accuracy("mobilevitv2", ONNX.artifact, "onnxruntime", True, "", 360, 352, 352, 360),),
        depths=(Depths("mobilevitv2", (Curve("onnx, onnxruntime", (0.5, 1.0, 40.0), (2, "classifier")),), 24.0,
                       ("The error begins at classifier.",)),),
        attention=(
            Attention("mobilevitv2", "a ramp", np.stack([ramp] * 3, axis=2),
                      {"stages.2.attention": scores, "stages.3.attention": np.full((4, 4), 1 / 16, np.float32)}),
        ),
        versions={"edgeattn": "0.1.0"},
        commands=("edgeattn parity m",),
    )  # fmt: skip
