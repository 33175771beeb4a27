"""From the exported graph to operators on named axes: one rule for each operator of PyTorch."""

from torch import fx

from edgeattn.lowering.proof import Values
from edgeattn.lowering.reading import functions, products, shapes
from edgeattn.lowering.reading.builder import Builder


def read(
    graph: fx.GraphModule, values: Values, *, batch: bool = False, opaque: frozenset[fx.Node] = frozenset()
) -> Builder:
    """The operators of a graph; arguments as :class:`~edgeattn.lowering.reading.builder.Builder`."""
    rules = {**shapes.RULES, **functions.RULES, **products.RULES}
    return Builder(graph, values, rules, batch=batch, opaque=opaque)
