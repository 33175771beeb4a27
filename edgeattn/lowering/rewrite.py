"""The whole lowering: capture, recognise, rewrite, and write in one layout, each step proved.

What cannot be captured, recognised or proved is exported as it is, with a sentence: the lowering may fail to help, but
never gives another function, and never stops an export that works without it.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import torch
from torch import Tensor, fx, nn

from edgeattn.bundle.change import Change
from edgeattn.errors import BadInputError, LoweringError
from edgeattn.layout import Layout
from edgeattn.lowering.capture import capture, rounds_inside, with_dtype
from edgeattn.lowering.edges import flat, with_last_edges
from edgeattn.lowering.movement import name, simplify_movement
from edgeattn.lowering.network import Network, origin_of
from edgeattn.lowering.passes import rewrite
from edgeattn.lowering.proof import LIMIT, Values, doubled, equal, random_like
from edgeattn.lowering.reading import read
from edgeattn.lowering.writing import CannotWriteError, emit
from edgeattn.system.vendor_errors import first_line

IN_PLACE = "patches, heads or channels are not moved: the values stay where they are, and what reads them knows where"
# Operators that one lowering may set aside as opaque before it gives up.
_MOST_RETRIES = 8
_MOVING = ("permute", "transpose", "t", "im2col", "col2im", "pixel_shuffle", "pixel_unshuffle")


@dataclass(frozen=True)
class Lowering:
    """A lowered module, the same in float64, and the changes. Inputs and outputs are channels-first, as before."""

    module: nn.Module
    exact: nn.Module
    changes: tuple[Change, ...]

    def with_edges(self, layout: Layout, last: Collection[int] = ()) -> nn.Module:
        """The module with the inputs and outputs of rank 4 in ``layout``; the inputs of the numbers ``last``
        channels-last in any layout."""
        if layout == "channels_last":
            return with_last_edges(self.module)
        return with_last_edges(self.module, last) if last else self.module


def lower(module: nn.Module, *, layout: Layout, inputs: Sequence[Tensor], dynamic_batch: bool = False) -> Lowering:
    """Rewrite ``module`` to its deployable form, exactly.

    Args:
        module: any module in evaluation mode; it is left untouched.
        layout: ``channels_first`` for ONNX and Core ML; ``channels_last`` for TFLite; ``channels_last_memory`` for
            ExecuTorch.
        inputs: positional example inputs; the result takes inputs of their shapes.
        dynamic_batch: the result takes any number of samples.

    Returns:
        A new module and its changes. A module that cannot be lowered is returned as an equal copy, with one change
        that says why.

    Raises:
        LoweringError: the module is in training mode (dropout on the scores forbids key folding), or the layout is
            unknown.
    """
    return understand(module, inputs, dynamic_batch=dynamic_batch).lowered(layout)


def understand(
    module: nn.Module,
    inputs: Sequence[Tensor],
    *,
    dynamic_batch: bool = False,
    lowering: bool = True,
    root: str = "",
) -> Understood:
    """What ``module`` computes, once for all layouts; arguments and errors as :func:`lower`.

    Without ``lowering`` it is given back as it is. ``root`` is the path of the module in it that the paths of changes
    are seen from.
    """
    if any(part.training for part in module.modules()):
        raise LoweringError("the module is in training mode; call module.eval() before it is lowered")
    inputs = tuple(x.detach() for x in inputs)
    if dynamic_batch and any(x.dim() == 0 for x in inputs):
        return Understood(
            module, inputs, None, "an input without dimensions has no batch", dynamic_batch, lowering, root
        )
    if dynamic_batch:
        inputs = of_two(inputs)
    try:
        graph = capture(module, inputs, root)
        simplify_movement(graph)
    except LoweringError as error:
        return Understood(module, inputs, None, str(error), dynamic_batch, lowering, root)
    except BadInputError:
        raise
    except Exception as error:  # noqa: BLE001  # as in Understood.lowered
        return Understood(module, inputs, None, _fault(error), dynamic_batch, lowering, root)
    return Understood(module, inputs, graph, "", dynamic_batch, lowering, root)


def of_two(inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Inputs of one sample as inputs of two, which a free batch is read with."""
    return tuple(x if x.shape[0] > 1 else x.repeat(2, *[1] * (x.dim() - 1)) for x in inputs)


@dataclass
class Understood:
    """A module, and its graph in float64; ``why_not`` says why there is none. ``enabled``: whether it is lowered.

    ``root``: see :func:`understand`.
    """

    module: nn.Module
    inputs: tuple[Tensor, ...]
    graph: fx.GraphModule | None
    why_not: str
    dynamic_batch: bool
    enabled: bool = True
    root: str = ""
    _opaque: set[fx.Node] = field(default_factory=set)
    _network: tuple[Network, Any] | None = None

    def lowered(self, layout: Layout, lacks: frozenset[str] = frozenset()) -> Lowering:
        """The module in one layout. ``lacks``: operators of ATen that its formats do not have, or get wrong."""
        if layout not in get_args(Layout):
            raise LoweringError(f"layout must be one of {', '.join(get_args(Layout))}, not {layout!r}")
        if not self.enabled:
            return self.unchanged("")
        why = self.why_not
        for _ in range(_MOST_RETRIES):
            if self.graph is None or why:
                break
            try:
                return self._written(layout, lacks)
            except CannotWriteError as error:
                if error.node is None or error.node in self._opaque:
                    why = error.why
                else:
                    self._opaque.add(error.node)
                    self._network = None
            except Exception as error:  # noqa: BLE001  # a fault in here must not stop an export that works without it
                why = _fault(error)
        if self.graph is not None and not why:
            why = "too many of its operators cannot be written in another order"
        return self.unchanged(why)

    @property
    def oracle(self) -> nn.Module | None:
        """The network in float64, for a module that cannot be run in it: one that rounds to float32 inside."""
        if self.graph is None:
            return None
        return self.graph if rounds_inside(self.graph) or not self._is_one_function(self.graph) else None

    def _is_one_function(self, graph: fx.GraphModule) -> bool:
        """Whether the module computes in float64 what it computes in float32: it may ask for its inputs' type, cast to
        float32 inside, which leaves no trace in a graph of float32, or hold tensors that are no buffers."""
        exact = doubled(self.inputs)
        try:
            module = copy.deepcopy(self.module).double()
            with torch.no_grad():
                # On values that float32 cannot hold, too.
                return all(equal(list(graph(*x)), flat(module(*x))) for x in (exact, random_like(exact)))
        except Exception:  # noqa: BLE001  # the user's module, in a type that it may not know
            return False

    def unchanged(self, why: str) -> Lowering:
        """The module as it is, with a sentence."""
        module = copy.deepcopy(self.module).eval()
        exact = self.oracle or copy.deepcopy(module).double()
        kind = type(self.module.get_submodule(self.root)).__name__
        changes = (Change("", kind, "as it is", f"not lowered: {why}"),) if why else ()
        return Lowering(module, exact, changes)

    def network(self) -> tuple[Network, Any]:
        """The operators, rewritten, and the axis of a free batch."""
        assert self.graph is not None
        if self._network is None:
            exact = doubled(self.inputs)
            values = Values(self.graph, [exact, random_like(exact)])
            builder = read(self.graph, values, batch=self.dynamic_batch, opaque=frozenset(self._opaque))
            network = Network(builder.ops, builder.outputs, values)
            rewrite(network)
            self._network = network, builder.batch
        return self._network

    def _written(self, layout: Layout, lacks: frozenset[str]) -> Lowering:
        assert self.graph is not None
        network, batch = self.network()
        exact, permutations = emit(network, layout, batch=batch, lacks=lacks)
        movements = _movements(self.graph)
        if layout != "channels_last" and permutations > movements.total():
            raise CannotWriteError(None, "more permutations would be left than it has")
        self._prove(exact)
        changes = [*network.changes, *network.refused]
        if movements.total() and not permutations:
            changes += [Change(*place, f"the same, {layout}", IN_PLACE) for place in movements]
        dtype = next((x.dtype for x in self.inputs if x.is_floating_point()), torch.float32)
        module = with_dtype(exact, dtype)
        self._run(module)
        return Lowering(module, exact, tuple(dict.fromkeys(changes)))

    def _run(self, module: fx.GraphModule) -> None:
        """See that it runs in its own precision, too: types that are mixed inside are not what they are in float64."""
        try:
            with torch.no_grad():
                module(*self.inputs)
        except (RuntimeError, IndexError) as error:
            raise CannotWriteError(None, f"what was written cannot run: {first_line(error)}") from error

    def _prove(self, exact: fx.GraphModule) -> None:
        """Compare the written graph with the module's own, on all inputs and, where the batch is free, with another."""
        assert self.graph is not None
        inputs = doubled(self.inputs)
        # The graph was not compiled again after its movement was simplified: it runs as captured, and proves that too.
        with torch.no_grad():
            for example in (inputs, random_like(inputs)):
                try:
                    expected, result = self.graph(*example), flat(exact(*example))
                except (RuntimeError, IndexError) as error:
                    raise CannotWriteError(None, f"what was written cannot run: {first_line(error)}") from error
                if not all(equal(a, b) for a, b in zip(expected, result, strict=True)):
                    floor = self._floor(example, expected)
                    if not all(equal(a, b, floor) for a, b in zip(expected, result, strict=True)):
                        raise CannotWriteError(None, "what was written has other values")
            if self.dynamic_batch:
                three = doubled([torch.cat([x, x[:1].flip(-1)])[:3] for x in self.inputs])
                try:
                    original = copy.deepcopy(self.module).double()
                    expected, result = flat(original(*three)), flat(exact(*three))
                except Exception as error:  # the module's own code, with another batch
                    raise CannotWriteError(None, f"it cannot take another batch: {first_line(error)}") from error
                if not all(equal(a, b, 1e-8) for a, b in zip(expected, result, strict=True)):
                    raise CannotWriteError(None, "it computes otherwise with another batch")

    def _floor(self, example: Sequence[Tensor], expected: Sequence[Any]) -> float:
        """What float64's rounding does to an ill-conditioned network: float32's own error, 29 bits further down."""
        assert self.graph is not None
        single = with_dtype(self.graph, torch.float32)
        rounded = single(*(x.float() if x.is_floating_point() else x for x in example))
        errors = [
            float((a - b.double()).abs().max() / a.abs().max().clamp_min(1e-300))
            for a, b in zip(expected, rounded, strict=True)
            if isinstance(a, Tensor) and a.is_floating_point() and a.numel()
        ]
        return max([LIMIT, *(24 * 2.0**-29 * error for error in errors)])


def _fault(error: Exception) -> str:
    return f"a fault of edgeattn's: {type(error).__name__}: {first_line(error)}; please report it"


def _movements(graph: fx.GraphModule) -> Counter[tuple[str, str]]:
    """How often each module, by path and class, moves values."""
    return Counter(
        origin_of(node) for node in graph.graph.nodes if node.op == "call_function" and name(node) in _MOVING
    )
