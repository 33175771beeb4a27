"""Records the intermediate values of a lowered module on the example input, in PyTorch, at export."""

import linecache
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, fx, nn
from torch.overrides import TorchFunctionMode

from edgeattn.export.source import run
from edgeattn.export.source.adapter import below
from edgeattn.lowering import Lowering
from edgeattn.lowering.observe import watching
from edgeattn.parity.layer_match import Layer, Positions, sample

_CODE_CHARS = 100
_FRAME = re.compile(r'File "(.+?)", line (\d+), in .*\n(.*)')
_TORCH = str(Path(torch.__file__).parent)


@dataclass(frozen=True)
class _Value:
    """An intermediate value in one precision; the sampled elements are in float64 in any case."""

    name: str
    op: str
    source: str
    inputs: tuple[int, ...]
    shape: tuple[int, ...]
    positions: Positions
    elements: npt.NDArray[np.float64]


class _Recorder(TorchFunctionMode):
    """Samples every floating-point value that is computed. Views of a value are not recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[tuple[str, nn.Module]] = []
        self.values: dict[str, _Value] = {}
        self.source = ""  # of the node that is run, where a graph is
        self._number_of: dict[int, int] = {}  # storage address -> number of its value
        self._alive: list[Tensor] = []  # keeps storages alive, so that no address is used twice

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        read = [x for x in _flat((*args, *kwargs.values())) if isinstance(x, Tensor)]
        before = {x.untyped_storage().data_ptr(): x._version for x in read}
        result = func(*args, **kwargs)
        after = {x.untyped_storage().data_ptr(): x._version for x in read}
        for value in _flat((result,)):
            if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
                continue
            storage = value.untyped_storage().data_ptr()
            if storage not in before or before[storage] != after[storage]:  # new, or changed in place
                self._add(value, *self._names(func), [self._number_of[s] for s in before if s in self._number_of])
        return result

    def output(self, name: str, value: Tensor) -> None:
        """An output of the whole module."""
        number = self._number_of.get(value.untyped_storage().data_ptr())
        self._add(value, f"output {name}", "output", [] if number is None else [number])

    def _add(self, value: Tensor, name: str, op: str, inputs: list[int]) -> None:
        again = 1
        while (unique := name if again == 1 else f"{name} #{again}") in self.values:
            again += 1
        shape = tuple(value.shape)
        positions = sample(shape)
        elements = value.detach().reshape(-1)[torch.from_numpy(positions)].double().numpy()
        source = "" if op == "output" else self.source or _source()
        self._number_of[value.untyped_storage().data_ptr()] = len(self.values)
        self._alive.append(value)
        self.values[unique] = _Value(unique, op, source, tuple(sorted(set(inputs))), shape, positions, elements)

    def _names(self, func: Any) -> tuple[str, str]:
        path, module = self.running[-1]
        function = func.__name__.split(".")[0].strip("_")
        if type(module).__module__.startswith("torch.nn.") and not any(module.children()):
            return path or type(module).__name__, type(module).__name__
        return f"{path}.{function}()".removeprefix("."), function


def _flat(values: Sequence[Any]) -> list[Any]:
    return [y for x in values for y in (_flat(x) if isinstance(x, tuple | list) else [x])]


def _source() -> str:
    """The innermost source line outside torch and this file; only the file's name, no folder."""
    frame = sys._getframe(1)
    while frame.f_back and (frame.f_code.co_filename == __file__ or frame.f_code.co_filename.startswith(_TORCH)):
        frame = frame.f_back
    file = frame.f_code.co_filename
    return f"{Path(file).name}:{frame.f_lineno} {linecache.getline(file, frame.f_lineno).strip()[:_CODE_CHARS]}"


class _Nodes(fx.Interpreter):
    """Runs a lowered graph; a function's node is named by the user's own module and line that it comes from."""

    def __init__(self, module: fx.GraphModule, recorder: _Recorder) -> None:
        super().__init__(module)
        self.recorder = recorder

    def run_node(self, n: fx.Node) -> Any:
        """The value of a node."""
        stack = list(n.meta.get("nn_module_stack", {}).values())
        path = str(stack[-1][0]) if stack else ""
        self.recorder.running.append((path, nn.Sequential(nn.Identity())))
        self.recorder.source = _last_line(n.meta.get("stack_trace") or "")
        result = super().run_node(n)
        self.recorder.running.pop()
        self.recorder.source = ""
        return result


def _last_line(trace: str) -> str:
    """The innermost line of a stack trace outside torch, as ``FILE:LINE CODE``."""
    lines = [(file, line, code) for file, line, code in _FRAME.findall(trace) if not file.startswith(_TORCH)]
    if not lines:
        return ""
    file, line, code = lines[-1]
    return f"{Path(file).name}:{line} {code.strip()[:_CODE_CHARS]}"


def _recorded(module: nn.Module, inputs: dict[str, Tensor], outputs: Sequence[str], root: str) -> tuple[_Value, ...]:
    recorder = _Recorder()

    def enter(path: str, part: nn.Module, _: object) -> None:
        recorder.running.append((below(path, root), part))

    def leave(_: str, __: nn.Module, ___: Any) -> None:
        recorder.running.pop()

    with watching(module, enter, leave), recorder, torch.no_grad():
        if isinstance(module, fx.GraphModule):
            values = _Nodes(module, recorder).run(*inputs.values())
            results = (values,) if isinstance(values, Tensor) else tuple(values)
        else:
            results = run(module, inputs)
    for name, value in zip(outputs, results, strict=True):
        recorder.output(name, value)
    return tuple(recorder.values.values())


def record(lowering: Lowering, inputs: dict[str, Tensor], outputs: Sequence[str], root: str = "") -> tuple[Layer, ...]:
    """Every value that ``lowering`` computes, in order of execution, the outputs last.

    Args:
        lowering: of a network.
        inputs: the example input, channels-first.
        outputs: the names of the outputs.
        root: the path of the user's own module, if the lowering left it inside of another.

    Returns:
        The layers; none if the module takes other steps in float64, so that they have no oracle.
    """
    double = {name: x.double() if x.is_floating_point() else x for name, x in inputs.items()}
    single = _recorded(lowering.module, inputs, outputs, root)
    truth = _recorded(lowering.exact, double, outputs, root)
    if [(v.name, v.shape) for v in single] != [(v.name, v.shape) for v in truth]:
        return ()
    return tuple(
        Layer(v.name, v.op, v.source, v.inputs, v.shape, v.positions, exact.elements, v.elements.astype(np.float32))
        for v, exact in zip(single, truth, strict=True)
    )
