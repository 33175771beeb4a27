"""LiteRT's profiler, by ctypes: the C interface has one, the Python package has not.

``worker.py`` imports it from its own folder, and works without it. Python 3.8 or later, ai-edge-litert 2; the
calls are those of ``arm64/runner.c``, on a compiled model of its own.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import numpy as np

# Kinds of events (tflite's Profiler::EventType): an operator, a delegate's node, an operator inside a delegate.
OPERATOR_EVENTS = 2 | 4 | 8
_CPU, _WRITE = 1, 1
_Size, _Handle = ctypes.c_size_t, ctypes.c_void_p


class _Event(ctypes.Structure):
    _fields_ = (
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("memory", _Size * 6),
        ("metadata", ctypes.c_uint64 * 2),
        ("source", ctypes.c_int),
    )


def operators(path: str, threads: int, inputs: dict[str, Any], calls: Iterator[None]) -> list[Any]:
    """Name, kind and median time in ns of each operator over ``calls``, of which the first does not count.

    Raises: as :class:`Profiler`; ImportError where ai-edge-litert is not installed.
    """
    package = import_module("ai_edge_litert").__file__ or ""
    profiler = Profiler(os.path.join(os.path.dirname(package), "libLiteRt.so"), path, threads, inputs)
    runs = [profiler.run() for _ in calls]
    return [
        [f"{i} {each[0][0]}", each[0][0], int(np.median([ns for _, ns in each]))]
        for i, each in enumerate(zip(*runs[1:]))  # noqa: B905 Python 3.8 has no strict
    ]


class Profiler:
    """A compiled model whose runs give each operator's time.

    Args:
        library: the path of libLiteRt.so.
        path: of the .tflite.
        threads: as in the measured runs.
        inputs: by name.

    Raises:
        RuntimeError: LiteRT refuses a step.
        OSError, AttributeError: the library is not LiteRT 2's.
    """

    def __init__(self, library: str, path: str, threads: int, inputs: dict[str, Any]) -> None:
        self.lib = ctypes.CDLL(library)
        self.environment, options = self._new("CreateEnvironment", 0, None), self._new("CreateOptions")
        model = self._new("CreateModelFromFile", self.environment, path.encode())
        self._call("SetOptionsHardwareAccelerators", options, _CPU)
        self._add(options, b"xnnpack", f"num_threads = {threads}\n")
        self._add(options, b"runtime_options_string", "enable_profiling = true\n")
        self.model = self._new("CreateCompiledModel", self.environment, model, options)
        self.profiler = self._new("CompiledModelGetProfiler", self.model)
        self.signature = self._new("GetModelSignature", model, _Size(0))
        self.inputs, self.outputs = self._buffers("Input"), self._buffers("Output")
        for i, buffer in enumerate(self.inputs):
            name = ctypes.string_at(self._new("GetSignatureInputName", self.signature, _Size(i))).decode()
            value, data = np.ascontiguousarray(inputs[name]), _Handle()
            self._call("LockTensorBuffer", _Handle(buffer), ctypes.byref(data), _WRITE)
            ctypes.memmove(data, value.ctypes.data, value.nbytes)
            self._call("UnlockTensorBuffer", _Handle(buffer))

    def run(self) -> list[tuple[str, int]]:
        """Run once: each operator's kernel, and its time in ns, in order."""
        self._call("ResetProfiler", self.profiler)
        self._call("StartProfiler", self.profiler)
        inputs, outputs = self.inputs, self.outputs
        self._call("RunCompiledModel", self.model, _Size(0), _Size(len(inputs)), inputs, _Size(len(outputs)), outputs)
        self._call("StopProfiler", self.profiler)
        number = ctypes.c_int()
        self._call("GetNumProfilerEvents", self.profiler, ctypes.byref(number))
        events = (_Event * number.value)()
        self._call("GetProfilerEvents", self.profiler, number, events)
        return [(event.tag.decode(), event.elapsed_us * 1000) for event in events if event.kind & OPERATOR_EVENTS]

    def _call(self, name: str, *arguments: Any) -> None:
        status = getattr(self.lib, "LiteRt" + name)(*arguments)
        if status:
            raise RuntimeError(f"LiteRt{name}: status {status}")

    def _new(self, name: str, *arguments: Any) -> ctypes.c_void_p:
        """The handle that a function returns by its last argument."""
        handle = _Handle()
        self._call(name, *arguments, ctypes.byref(handle))
        return handle

    def _add(self, options: ctypes.c_void_p, identifier: bytes, toml: str) -> None:
        libc = ctypes.CDLL(None)
        libc.strdup.restype = _Handle
        text = _Handle(libc.strdup(toml.encode()))  # LiteRT frees it
        free: Callable[..., Any] = libc.free
        self._call("AddOpaqueOptions", options, self._new("CreateOpaqueOptions", identifier, text, free))

    def _buffers(self, side: str) -> Any:
        number = _Size()
        self._call(f"GetNumSignature{side}s", self.signature, ctypes.byref(number))
        buffers = (_Handle * number.value)()
        for i in range(number.value):
            tensor = self._new(f"GetSignature{side}TensorByIndex", self.signature, _Size(i))
            kind = ctypes.create_string_buffer(256)
            self._call("GetRankedTensorType", tensor, kind)
            needs = self._new(f"GetCompiledModel{side}BufferRequirements", self.model, _Size(0), _Size(i))
            buffer = self._new("CreateManagedTensorBufferFromRequirements", self.environment, kind, needs)
            buffers[i] = buffer.value
        return buffers
