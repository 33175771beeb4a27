"""What a module does with its example inputs: which module alone reads another's output, and the sizes of maps."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


@dataclass(frozen=True)
class Link:
    """``reader`` is the only reader of the output of ``source``; both are paths of modules called once.

    With ``pooled``, the mean over the map (and a flattening) is between them.
    """

    source: str
    reader: str
    pooled: bool = False


@dataclass(frozen=True)
class Observation:
    """``sizes`` are the (H, W) by path of modules that were called once and returned one tensor of rank 4."""

    links: tuple[Link, ...]
    sizes: dict[str, tuple[int, int]]


def is_spatial_mean(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Whether this call is the mean over H and W of a [B, C, H, W], with or without keeping the axes."""
    if not (args and isinstance(args[0], Tensor) and args[0].dim() == 4):
        return False
    if _name(func) == "adaptive_avg_pool2d":
        size = args[1] if len(args) > 1 else kwargs.get("output_size")
        return size in (1, (1, 1), [1, 1])
    if _name(func) != "mean" or set(kwargs) - {"dim", "keepdim"}:
        return False
    dims = args[1] if len(args) > 1 else kwargs.get("dim")
    return isinstance(dims, tuple | list) and sorted(d % 4 for d in dims) == [2, 3]


@contextmanager
def watching(
    module: nn.Module,
    enter: Callable[[str, nn.Module, tuple[Any, ...]], None] = lambda *_: None,
    leave: Callable[[str, nn.Module, Any], None] = lambda *_: None,
) -> Iterator[None]:
    """While the block runs, call ``enter`` with the path, the part and its inputs (named ones last) before the forward
    pass of each part of ``module``, and ``leave`` with the path, the part and its output after it."""

    def before(path: str) -> Any:
        return lambda part, args, kwargs: enter(path, part, (*args, *kwargs.values()))

    handles = []
    for path, part in module.named_modules():
        handles.append(part.register_forward_pre_hook(before(path), with_kwargs=True))
        handles.append(part.register_forward_hook(lambda part, _, output, path=path: leave(path, part, output)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def observe(module: nn.Module, inputs: Sequence[Tensor]) -> Observation:
    """Run ``module`` once, without changing it."""
    recorder = _Recorder()
    calls: Counter[str] = Counter()
    outputs: dict[str, Tensor] = {}

    def leave(path: str, _: nn.Module, output: Any) -> None:
        recorder.running.pop()
        calls[path] += 1
        if isinstance(output, Tensor):
            outputs[path] = output

    parts = dict(module.named_modules())
    with watching(module, lambda path, *_: recorder.running.append(path), leave), torch.no_grad(), recorder:
        result = module(*inputs)
    for tensor in _tensors(result):
        recorder.readers[id(tensor)].append(_Read("", None, tensor))

    once = {path: outputs[path] for path, number in calls.items() if number == 1 and path in outputs}
    links = []
    for path, output in once.items():
        if isinstance(parts[path], nn.Conv2d | nn.Linear | nn.BatchNorm2d):
            reader, pooled = recorder.only_reader(output)
            # The root returns its own output, and does not read it.
            if reader in once and reader != path and _is_leaf(parts[reader]):
                links.append(Link(path, reader, pooled))
    sizes = {path: (x.shape[2], x.shape[3]) for path, x in once.items() if x.dim() == 4}
    return Observation(tuple(links), sizes)


@dataclass(frozen=True)
class _Read:
    """A call that reads a tensor, and the module that makes the call (the root for a result)."""

    path: str
    func: Any
    result: Any
    spatial_mean: bool = False


class _Recorder(TorchFunctionMode):
    """Records the readers of each tensor, and holds the tensors, so that no two have the same id."""

    def __init__(self) -> None:
        super().__init__()
        self.running: list[str] = []
        self.readers: defaultdict[int, list[_Read]] = defaultdict(list)
        self.held: list[Any] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        # A call that returns no tensor (a shape, a type) reads no values; an inactive dropout returns its input.
        if any(True for _ in _tensors(result)) and not (_name(func) == "dropout" and result is args[0]):
            self.held.append((args, kwargs, result))
            path = self.running[-1] if self.running else ""
            read = _Read(path, func, result, is_spatial_mean(func, args, kwargs))
            for tensor in {id(t): t for t in _tensors((args, kwargs))}.values():
                self.readers[id(tensor)].append(read)
        return result

    def only_reader(self, tensor: Tensor) -> tuple[str, bool]:
        """The path of the one module that reads ``tensor``, and whether it reads its mean over the map."""
        pooled = False
        while len(self.readers[id(tensor)]) == 1:
            read = self.readers[id(tensor)][0]
            passes_on = pooled and _name(read.func) in ("flatten", "squeeze")
            if not (read.spatial_mean or passes_on):
                return read.path, pooled
            pooled, tensor = True, read.result
        return "", False


def _name(func: Any) -> str:
    return getattr(func, "__name__", "")


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _tensors(inner)
