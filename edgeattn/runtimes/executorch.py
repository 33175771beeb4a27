"""ExecuTorch's own runtime, with its XNNPACK backend."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError
from edgeattn.formats import _pte as pte
from edgeattn.formats.executorch import FORMAT, INPUT_NAMES, OUTPUT_NAMES
from edgeattn.runtimes import Left, Observed, Runtime, Session, Share, Signature, ValueCallback
from edgeattn.system import files
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import refusing

# The order of the axes in memory of torch.channels_last.
_LAST = [0, 2, 3, 1]


class ExecuTorch(Runtime):
    format = "executorch"
    extra = "executorch"
    packages = ("executorch",)

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        from importlib.metadata import version as installed

        return installed("executorch")

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        """Load ``path``. The number of threads is the process's, for all programs in it.

        Raises:
            ArtifactError: ExecuTorch refuses the file.
        """
        with refusing(f"ExecuTorch refuses {path}"), quiet():
            content = files.read(path, 2**31)
            session = _Session(pte.unpack(content, graphs=False), content, threads)
        yield session

    def observe(self, path: Path, inputs: Arrays, callback: ValueCallback) -> None:
        """Run a copy of ``path`` in which every value is an output; ``callback`` gets each, by delegate and number.

        XNNPACK fuses less here than in the file itself, and its maps lie as it computes them, [B, H, W, C].
        """
        with refusing(f"ExecuTorch cannot run {path} with all its values"), quiet():
            parts = pte.unpack(files.read(path, 2**31))
            observed = pte.with_all_outputs(parts)
            session = _Session(parts, pte.pack(parts), 1)
            values = session.execute(inputs)[len(session.signature.outputs) - len(observed) :]
        for (name, kind), value in zip(observed, values, strict=True):
            callback(Observed(name, kind, value))

    def share(self, path: Path, variant: str = "") -> Share:
        """The operators in XNNPACK's delegates, and those beside them, with the reason where the file has it."""
        graph = FORMAT.read(path)
        with quiet():
            noted, left = pte.left(pte.unpack(files.read(path, 2**31), graphs=False)), []
        for op in graph.ops:
            place = op.name.partition(":")[0]  # the delegate's number, or ATen's name
            if not place.isdigit():
                reasons = noted.get(place) or [("the file does not say why", op.name)]
                reason, module = reasons.pop(0)
                left.append(Left(op.kind, reason, module or op.name))
        delegates: Any = graph.details["delegates"]
        return Share("executorch (XNNPACK)", len(graph.ops) - len(left), tuple(left), len(delegates))

    def examine(self, path: Path) -> dict[str, Any]:
        """The number of delegates."""
        share = self.share(path)
        return {"delegates": share.partitions, "beside_delegates": len(share.left)}


RUNTIME: Runtime = ExecuTorch()


class Loaded:
    """The method of a program, loaded. The number of threads is the process's; ``traced`` costs some time."""

    def __init__(self, content: bytes, threads: int, *, traced: bool = False) -> None:
        from executorch.extension.pybindings import portable_lib
        from executorch.runtime import Runtime as Vendor

        if portable_lib._threadpool_get_thread_count() != threads:
            portable_lib._unsafe_reset_threadpool(threads)
        # The method reads the program's memory, and does not keep it.
        self.program = Vendor.get().load_program(content, enable_etdump=traced)
        method = self.program.load_method(pte.main_method(self.program.method_names))
        if method is None:
            raise ArtifactError("ExecuTorch cannot load the file's method")
        self.method = method

    def execute(self, tensors: Sequence[Any]) -> Sequence[Any]:
        """Run it once; the outputs are torch's tensors."""
        outputs: Sequence[Any] = self.method.execute(tensors)
        return outputs


class Edges:
    """The inputs and outputs of a program."""

    def __init__(self, parts: pte.Pte) -> None:
        plan = parts.plan
        tensors = [plan.values[i].val for i in plan.inputs]
        names = parts.constants(INPUT_NAMES)
        if len(names) != len(tensors):
            names = [f"input_{k}" for k in range(len(tensors))]
        outputs = parts.constants(OUTPUT_NAMES)
        outputs += [f"output_{k}" for k in range(len(outputs), len(plan.outputs))]
        self.is_last = {n: list(getattr(t, "dim_order", ())) == _LAST for n, t in zip(names, tensors, strict=True)}
        self.signature = Signature(
            {n: tuple(getattr(t, "sizes", ())) for n, t in zip(names, tensors, strict=True)}, tuple(outputs)
        )

    def tensors(self, inputs: Arrays) -> list[Any]:
        """Arrays by name, [B, C, H, W] for a map, as torch's tensors in the program's order, in memory too.

        Raises:
            ValueError: one has another shape.
        """
        import torch

        tensors = []
        for name, is_last in self.is_last.items():
            x = torch.from_numpy(np.asarray(inputs[name], order="C"))
            if tuple(x.shape) != self.signature.inputs[name]:  # it would say so on the terminal only
                raise ValueError(f"{name} has the shape {tuple(x.shape)}, not {self.signature.inputs[name]}")
            # It takes another order of the same numbers without a word.
            tensors.append(x.contiguous(memory_format=torch.channels_last) if is_last else x)
        return tensors


def as_arrays(outputs: Sequence[Any]) -> list[Any]:
    return [np.asarray(value, order="C") for value in outputs]


class _Session(Session):
    def __init__(self, parts: pte.Pte, content: bytes, threads: int) -> None:
        self.edges, self.loaded = Edges(parts), Loaded(content, threads)
        self.signature = self.edges.signature

    def run(self, inputs: Arrays) -> Arrays:
        with refusing("ExecuTorch cannot run the file on these inputs"):
            return dict(zip(self.signature.outputs, self.execute(inputs), strict=True))

    def execute(self, inputs: Arrays) -> list[Any]:
        return as_arrays(self.loaded.execute(self.edges.tensors(inputs)))
