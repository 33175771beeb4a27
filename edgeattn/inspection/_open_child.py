"""Opens a file in its vendors' libraries, and runs it if the flag is 1: `python _open_child.py BYTES SECONDS 0|1 FILE`.

A hostile file may crash these libraries, and this process with them: it exists for that. An error that they raise is
no finding here: the code that opens the file afterwards meets it too, and reports it.
"""

import contextlib
import os
import sys
from typing import Any

# Exit code: it needed more memory than its limit.
MEMORY = 77


def onnx(path: str, run: bool) -> None:
    import onnx.inliner
    import onnxruntime

    # By its path, the checker also refuses weights outside the model's folder, before a runtime reads them.
    onnx.checker.check_model(path)
    model = onnx.load(path, load_external_data=False)
    onnx.shape_inference.infer_shapes(onnx.inliner.inline_local_functions(model))
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    if run:
        zeros = {x.name: _zeros(x.shape, _DTYPES.get(x.type, "float32")) for x in session.get_inputs()}
        session.run(None, zeros)


_DTYPES = {f"tensor({name})": name for name in ("float16", "int64", "int32", "int8", "uint8", "bool")}
_DTYPES["tensor(double)"] = "float64"


def tflite(path: str, run: bool) -> None:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    bare = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    for interpreter in (Interpreter(path, experimental_op_resolver_type=bare), Interpreter(path)):
        interpreter.allocate_tensors()
    if run:
        for tensor in interpreter.get_input_details():
            interpreter.set_tensor(tensor["index"], _zeros(tensor["shape"], tensor["dtype"]))
        interpreter.invoke()


def aimodel(path: str, run: bool) -> None:
    import asyncio

    from coreai.authoring import AIModelAsset
    from coreai.runtime import NDArray

    asset = AIModelAsset.load(path)
    asset.summary(include_statistics=True)

    async def trial() -> None:
        async with asset.executable() as model:
            for name in model.function_names:
                function = model.load_function(name)
                inputs = {}
                for x in function.desc.input_names:
                    kind = function.desc.input_descriptor(x)
                    inputs[x] = NDArray(_zeros(kind.shape, kind.dtype))
                await function(inputs)

    asset.program  # noqa: B018  # it is parsed
    if run:
        asyncio.run(trial())


def pte(path: str, run: bool) -> None:
    import torch
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(path)
    name = "forward" if "forward" in program.method_names else min(program.method_names)
    method = program.load_method(name)
    if run and method is not None:
        kinds = [method.metadata.input_tensor_meta(i) for i in range(method.metadata.num_inputs())]
        method.execute([torch.zeros(kind.sizes(), dtype=getattr(torch, _TORCH[kind.dtype()])) for kind in kinds])


# By the numbers of ExecuTorch's ScalarType.
_TORCH = {
    0: "uint8",
    1: "int8",
    2: "int16",
    3: "int32",
    4: "int64",
    5: "float16",
    6: "float32",
    7: "float64",
    11: "bool",
}


def _zeros(shape: Any, dtype: Any) -> Any:
    import numpy as np

    return np.zeros([n if isinstance(n, int) and n > 0 else 1 for n in map(_number, shape)], dtype)


def _number(length: Any) -> Any:
    return int(length) if hasattr(length, "__int__") and not isinstance(length, str) else None


OPENERS = {
    "aimodel": aimodel,
    "onnx": onnx,
    "pte": pte,
    "tflite": tflite,
}


def limit(memory_bytes: int, seconds: int) -> None:
    """Of memory, of each written file and of time, as far as the system can: macOS takes no limit of memory, Windows
    none at all."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_FSIZE, (memory_bytes, memory_bytes))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def main() -> int:
    memory_bytes, seconds, run, path = sys.argv[1:]
    limit(int(memory_bytes), int(seconds))
    try:
        OPENERS[path.rpartition(".")[2]](path, run == "1")
    except MemoryError:
        return MEMORY
    except Exception as error:  # noqa: BLE001  # see above
        return MEMORY if "allocate memory" in str(error) or "bad_alloc" in str(error) else 0
    return 0


if __name__ == "__main__":
    # Without any destructor of a library that was given a hostile file; and Core AI's threads end now and then one
    # process in ten, if they are at work while Python ends (coreai-core 1.0.0b3).
    os._exit(main())
