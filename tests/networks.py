"""Networks of operators on named axes, for the tests of each pass alone."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from edgeattn.lowering.capture import capture
from edgeattn.lowering.movement import simplify_movement
from edgeattn.lowering.network import Network, Pass
from edgeattn.lowering.ops import Constant, Input, viewed
from edgeattn.lowering.proof import Values, equal, random_like
from edgeattn.lowering.reading import read

Function = Callable[[Any, Tensor], Any]


class Made(nn.Module):
    """A function of parts: parameters, modules and buffers, by their names."""

    def __init__(self, function: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            setattr(self, name, nn.Buffer(part) if type(part) is Tensor else part)

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(self, *inputs)


def lively(module: nn.Module) -> nn.Module:
    """With statistics and affine parts that are not those of a new norm; in evaluation mode, in float64."""
    generator = torch.Generator().manual_seed(1)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm | nn.GroupNorm):
            for value in (*part.parameters(), *part.buffers()):
                if value.is_floating_point():
                    value.data = torch.rand(value.shape, generator=generator) + 0.5
    return module.double().eval()


def network(module: nn.Module, *inputs: Tensor) -> Network:
    """The operators of a module, as the passes get them."""
    exact = [x.double() if x.is_floating_point() else x for x in inputs]
    graph = capture(lively(module), exact)
    simplify_movement(graph)
    values = Values(graph, [exact, random_like(exact)])
    builder = read(graph, values)
    return Network(builder.ops, builder.outputs, values)


def results(net: Network, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """What the operators compute, one after the other."""
    values: dict[Any, Any] = {}
    with torch.no_grad():
        for op in net.ops:
            if isinstance(op, Input):
                x = inputs[op.number]
                values[op] = (x.double() if x.is_floating_point() else x).reshape([a.size for a in op.axes])
            else:
                values[op] = op.evaluate(*(values[x] for x in op.inputs))
    return [viewed(values[view.op], view) for view in net.outputs]


def same(net: Network, module: nn.Module, *inputs: Tensor) -> bool:
    """Whether it computes what the module does, in float64, on these inputs."""
    with torch.no_grad():
        expected = module(*(x.double() if x.is_floating_point() else x for x in inputs))
    return equal([expected] if isinstance(expected, Tensor) else list(expected), results(net, inputs))


def count(net: Network) -> Counter[str]:
    """How many operators there are of each kind, without inputs and constants."""
    return Counter(type(op).__name__ for op in net.ops if not isinstance(op, Input | Constant))


def settle(net: Network, *passes: Pass) -> bool:
    """Run passes until they find nothing; whether they changed anything."""
    found = [one(net) for one in passes]
    return any(found) and (settle(net, *passes) or True)


def changed(module: nn.Module, *inputs: Tensor, by: tuple[Pass, ...]) -> Network:
    """The network after the passes, which change it; its values are the module's."""
    net = network(module, *inputs)
    assert settle(net, *by)
    assert not net.refused
    assert same(net, module, *inputs)
    assert same(net, module, *(x.flip(0) if x.is_floating_point() else x for x in inputs))
    return net


def together(functions: Iterable[Function], **parts: Any) -> Made:
    """Many functions of the same parts as one network: an export takes most of a test's time."""
    every = tuple(functions)

    def forward(module: Made, x: Tensor) -> tuple[Tensor, ...]:
        results = [f(module, x) for f in every]
        return tuple(y for r in results for y in (r if isinstance(r, tuple) else (r,)))

    return Made(forward, **parts)


def left_alone(module: nn.Module, *inputs: Tensor, by: tuple[Pass, ...]) -> None:
    """The last of the passes finds nothing, and tries nothing."""
    net = network(module, *inputs)
    settle(net, *by[:-1])
    before = list(net.ops)
    assert not by[-1](net), net.changes
    assert net.ops == before
    assert not net.refused
    assert same(net, module, *inputs)
