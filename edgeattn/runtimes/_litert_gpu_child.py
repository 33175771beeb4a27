"""A .tflite file on LiteRT's GPU accelerator, in a process of its own: `python _litert_gpu_child.py FILE fp32|fp16`.

A driver may crash or hang, and writes to both streams. Frames on stdin and stdout: 8 bytes of length, then the content.
First a JSON document: what is open, or the error. Then for each .npz of inputs a JSON document, and a .npz of outputs
unless that has an error.
"""

import io
import json
import os
import sys
from typing import IO, Any

import numpy as np

# In the log, before what the accelerator says of the file with the CPU beside it.
WITH_CPU = "== with the CPU"


def write(stream: IO[bytes], content: bytes) -> None:
    stream.write(len(content).to_bytes(8, "little") + content)
    stream.flush()


def read(stream: IO[bytes]) -> bytes:
    return stream.read(int.from_bytes(stream.read(8), "little"))


class Model:
    """``precision`` is the arithmetic: fp32, or what the accelerator chooses, which is fp16 where the driver has it."""

    def __init__(self, path: str, precision: str) -> None:
        from ai_edge_litert.compiled_model import CompiledModel, HardwareAccelerator
        from ai_edge_litert.options import CpuOptions, GpuOptions, Options

        gpu, cpu = HardwareAccelerator.GPU, HardwareAccelerator.CPU
        arithmetic = GpuOptions(enforce_f32=precision == "fp32")
        # With the CPU beside it a model calls itself accelerated even if most of it is on the CPU: so alone, first.
        try:
            options = Options(hardware_accelerators=gpu, gpu_options=arithmetic)
            self.model = CompiledModel.from_file(path, options=options)
            self.alone = bool(self.model.is_fully_accelerated())
        except RuntimeError:
            self.alone = False
        if not self.alone:
            print(WITH_CPU, file=sys.stderr, flush=True)
            threads = CpuOptions(num_threads=1)
            options = Options(hardware_accelerators=gpu | cpu, gpu_options=arithmetic, cpu_options=threads)
            self.model = CompiledModel.from_file(path, options=options)
        key, names = next(iter(self.model.get_signature_list().items()))
        self.inputs, self.outputs = list(names["inputs"]), list(names["outputs"])
        self.given_details = self.model.get_input_tensor_details(key)
        self.taken_details = self.model.get_output_tensor_details(key)
        self.given, self.taken = self.model.create_input_buffers(0), self.model.create_output_buffers(0)

    def about(self) -> dict[str, Any]:
        details = {name: self.given_details[name] for name in self.inputs}
        return {
            "alone": self.alone,
            "inputs": {name: [int(n) for n in each["shape"]] for name, each in details.items()},
            "types": {name: np.dtype(each["dtype"]).name for name, each in details.items()},
            "outputs": self.outputs,
        }

    def feed(self, inputs: Any) -> None:
        for name, buffer in zip(self.inputs, self.given):  # noqa: B905  # as many, by their signature
            buffer.write(np.ascontiguousarray(inputs[name]))

    def invoke(self) -> None:
        self.model.run_by_index(0, self.given, self.taken)

    def results(self) -> dict[str, Any]:
        found = {}
        for name, buffer in zip(self.outputs, self.taken):  # noqa: B905
            about = self.taken_details[name]
            shape, dtype = [int(n) for n in about["shape"]], np.dtype(about["dtype"])
            found[name] = np.asarray(buffer.read(int(np.prod(shape)), dtype)).reshape(shape)
        return found

    def run(self, inputs: Any) -> dict[str, Any]:
        self.feed(inputs)
        self.invoke()
        return self.results()


def operators(path: str) -> int:
    """The number of operators in the file."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    bare = Interpreter(path, experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    return len(bare._get_ops_details())


def is_finer(path: str, inputs: Any, outputs: dict[str, Any]) -> bool:
    """Whether the arithmetic that the accelerator chose is fp32: the same outputs, bit for bit."""
    exact = Model(path, "fp32").run(inputs)
    return all(np.array_equal(outputs[name], exact[name], equal_nan=True) for name in outputs)


def main() -> None:
    source, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    path, precision = sys.argv[1:]
    try:
        model = Model(path, precision)
        write(out, json.dumps({**model.about(), "operators": operators(path)}).encode())
    except Exception as error:  # noqa: BLE001  # a traceback here would reach nobody
        write(out, json.dumps({"error": str(error) or type(error).__name__}).encode())
        return
    finer: bool | None = None if precision == "fp16" else False
    while content := read(source):
        try:
            inputs = np.load(io.BytesIO(content))
            found = model.run(inputs)
            if finer is None and any(np.abs(y).max(initial=0) for y in found.values()):
                finer = is_finer(path, inputs, found)
            result = io.BytesIO()
            np.savez(result, **found)
        except Exception as error:  # noqa: BLE001
            write(out, json.dumps({"error": str(error) or type(error).__name__}).encode())
        else:
            write(out, json.dumps({"finer": bool(finer)}).encode())
            write(out, result.getvalue())
    out.flush()
    os._exit(0)  # without the destructors of a driver


if __name__ == "__main__":
    main()
