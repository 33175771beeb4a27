"""The languages: which formats each runs and in what, its string literals, and what of it edgeattn's own tests run."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgeattn.snippets import literals
from edgeattn.snippets.literals import Literal

RUN = "run by edgeattn's tests"
NOT_COMPILED = "not compiled by edgeattn's tests"
NOT_RUN = "not run by edgeattn's tests"
_OTHER_DELEGATE = "not run by edgeattn's tests with this delegate"


@dataclass(frozen=True)
class Way:
    """How a language runs a format.

    Attributes:
        runtime: its name.
        needs: what is to be installed, a line for a comment.
        delegates: what the program writes for each delegate, by our name of it; the first is the default.
        checked: what the tests do with the program, with its default delegate.
        threads: whether the program chooses the number of threads.
        edges: the types of inputs and outputs that it has; empty where it has all.
    """

    runtime: str
    needs: str
    delegates: Mapping[str, str]
    checked: str
    threads: bool = True
    edges: frozenset[str] = frozenset()

    def checked_with(self, delegate: str) -> str:
        """What the tests do with the program, with this delegate."""
        default = delegate == next(iter(self.delegates))
        return self.checked if default or self.checked in (NOT_COMPILED, NOT_RUN) else _OTHER_DELEGATE


@dataclass(frozen=True)
class Language:
    """A language; its template is ``templates/NAME.jinja``.

    Attributes:
        comment: what begins one.
        literal: a text as a string.
        ways: how it runs a format, the preferred format first.
        types: its types of numbers, by ours.
    """

    comment: str
    literal: Literal
    ways: Mapping[str, Way]
    types: Mapping[str, str] = field(default_factory=dict)


_UNITS = ("all", "cpu", "gpu", "ane")
_NUMBERS = (
    "bool",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "float16",
    "float32",
    "float64",
)


def _types(*names: str) -> dict[str, str]:
    return dict(zip(_NUMBERS, names, strict=True))


LANGUAGES: Mapping[str, Language] = {
    "kotlin": Language(
        "//",
        literals.kotlin,
        {
            "tflite": Way(
                "LiteRT on Android",
                'in build.gradle.kts implementation("com.google.ai.edge.litert:litert:1.4.0"),',
                {"xnnpack": "", "gpu": "GpuDelegate()"},
                "compiled by edgeattn's tests, and run on stand-ins alone",
            )
        },
        # How many bytes each takes.
        _types("1", "1", "2", "4", "8", "1", "2", "4", "8", "2", "4", "8"),
    ),
    "swift": Language(
        "//",
        literals.swift,
        {
            "coreml": Way(
                "Core ML",
                "the .mlpackage in the target of your app, where Xcode compiles it",
                dict(zip(_UNITS, (".all", ".cpuOnly", ".cpuAndGPU", ".cpuAndNeuralEngine"), strict=True)),
                NOT_COMPILED,
                threads=False,
            )
        },
        _types(*["Int32"] * 9, "Float16", "Float", "Double"),
    ),
    "javascript": Language(
        "//",
        literals.javascript,
        {
            "onnx": Way("onnxruntime-web", "npm install onnxruntime-web", {"wasm": "wasm", "webgpu": "webgpu"}, RUN),
            "tflite": Way(
                "LiteRT.js",
                "npm install @litertjs/core",
                {"wasm": "wasm", "webgpu": "webgpu"},
                RUN,
                edges=frozenset({"float32", "int32", "uint8"}),
            ),
        },
        _types(
            "Uint8Array", "Int8Array", "Int16Array", "Int32Array", "BigInt64Array", "Uint8Array", "Uint16Array",
            "Uint32Array", "BigUint64Array", "Float16Array", "Float32Array", "Float64Array",
        ),
    ),
    "cpp": Language(
        "//",
        literals.cpp,
        {
            "tflite": Way(
                "LiteRT 2.3 by its C API",
                "headers of LiteRT (litert/c), libLiteRt.so of ai-edge-litert; g++ -std=c++17 ... -lLiteRt",
                {"xnnpack": "kLiteRtHwAcceleratorCpu", "gpu": "kLiteRtHwAcceleratorGpu"},
                RUN,
            ),
            "onnx": Way(
                "onnxruntime",
                "headers and library of onnxruntime; g++ -std=c++17 ... -lonnxruntime",
                {"cpu": ""},
                RUN,
            ),
        },
        _types(
            "bool", "int8_t", "int16_t", "int32_t", "int64_t", "uint8_t", "uint16_t", "uint32_t", "uint64_t",
            "Ort::Float16_t", "float", "double",
        ),
    ),
    "python": Language(
        "#",
        literals.python,
        {
            "tflite": Way("LiteRT", "pip install ai-edge-litert numpy", {"xnnpack": ""}, RUN),
            "onnx": Way(
                "onnxruntime",
                "pip install onnxruntime numpy",
                {
                    "cpu": "CPUExecutionProvider",
                    "cuda": "CUDAExecutionProvider",
                    "coreml": "CoreMLExecutionProvider",
                    "directml": "DmlExecutionProvider",
                },
                RUN,
            ),
            "executorch": Way("ExecuTorch", "pip install executorch numpy", {"xnnpack": ""}, RUN),
            "coreml": Way(
                "Core ML, on macOS",
                "pip install coremltools numpy",
                dict(zip(_UNITS, ("ALL", "CPU_ONLY", "CPU_AND_GPU", "CPU_AND_NE"), strict=True)),
                NOT_RUN,
                threads=False,
            ),
        },
    ),
}  # fmt: skip
