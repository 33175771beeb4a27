"""From operators on named axes to a graph in one layout: one rule for each kind of operator."""

from itertools import product
from typing import Any

from torch import fx

from edgeattn.layout import Layout
from edgeattn.lowering import ops
from edgeattn.lowering.axes import Axis
from edgeattn.lowering.network import Network
from edgeattn.lowering.writing import elementwise, linear, parts, products, reductions
from edgeattn.lowering.writing.emitter import CannotWriteError, Emitter, Known, Manner, Rule

RULES: dict[type[Any], Rule] = {
    ops.Input: parts.input_,
    ops.Constant: parts.constant,
    ops.Rename: parts.rename,
    ops.Slice: parts.slice_,
    ops.Concat: parts.concat,
    ops.Expand: parts.expand,
    ops.Opaque: parts.opaque,
    ops.Pointwise: elementwise.pointwise,
    ops.Linear: linear.linear_map,
    ops.Reduce: reductions.reduce_,
    ops.Softmax: reductions.softmax,
    ops.Norm: reductions.norm,
    ops.Contract: products.contract,
}
# What is tried after the plain manner.
_OTHERS = [Manner(*flags) for flags in product((False, True), repeat=3) if any(flags)]
__all__ = ["CannotWriteError", "emit"]


def emit(
    network: Network, layout: Layout, *, batch: Axis | None = None, lacks: frozenset[str] = frozenset()
) -> tuple[fx.GraphModule, int]:
    """The network as a graph module in float64, with channels-first edges, and the permutations in it.

    Of the manners of writing its matrix products, the first that leaves the fewest permutations is taken.

    Args:
        network: the operators.
        layout: of the graph inside.
        batch: the axis whose length is free.
        lacks: operators of ATen that must not be left in it, as far as :mod:`edgeattn.lowering.writing.resizing` can.

    Raises:
        CannotWriteError: an operator cannot be written in this layout.
    """
    known = Known.of(network, layout)
    best, fewest = _written(network, layout, batch, Manner(), known, lacks)
    if any(isinstance(op, ops.Contract) for op in network.ops):
        for manner in _OTHERS:
            if not fewest:
                break
            module, permutations = _written(network, layout, batch, manner, known, lacks)
            if permutations < fewest:
                best, fewest = module, permutations
    return best, fewest


def _written(
    network: Network, layout: Layout, batch: Axis | None, manner: Manner, known: Known, lacks: frozenset[str]
) -> tuple[fx.GraphModule, int]:
    emitter = Emitter(network, layout, RULES, batch, manner, known, lacks)
    for op in network.ops:
        try:
            emitter.write(op)
        # Whatever a rule does not foresee: the operator in its original order can still be written.
        except (RuntimeError, ValueError, IndexError, AssertionError, StopIteration) as error:
            raise CannotWriteError(op.node, f"{type(op).__name__}: {error}") from error
    results = []
    for view in network.outputs:
        emitter.w.op = view.op
        results.append(emitter.logical(view, is_output=True))
    emitter.w.graph.output(tuple(results) if len(results) > 1 else results[0])
    module = fx.GraphModule(emitter.w.root, emitter.w.graph).eval()
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    return module, emitter.w.permutations
