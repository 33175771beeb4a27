"""One file per kind of rewrite; each holds functions that are a :class:`edgeattn.lowering.network.Pass`."""

from edgeattn.lowering.network import Network, Pass
from edgeattn.lowering.passes.affine import into_products, into_readers
from edgeattn.lowering.passes.attention import fold_keys, no_query_bias, separate_projections
from edgeattn.lowering.passes.branches import merge_branches
from edgeattn.lowering.passes.compose import compose, into_kernels
from edgeattn.lowering.passes.joins import apart
from edgeattn.lowering.passes.slices import cut_before
from edgeattn.lowering.passes.spelling import one_spelling

# In this order, again and again until none of them finds anything.
PASSES: tuple[Pass, ...] = (
    one_spelling,
    into_products,
    into_kernels,
    into_readers,
    separate_projections,
    no_query_bias,
    fold_keys,
    merge_branches,
    compose,
    cut_before,
    apart,
)


def rewrite(network: Network) -> None:
    """Run all passes until nothing changes."""
    changed = True
    while changed:
        changed = False
        for apply in PASSES:
            changed |= apply(network)
