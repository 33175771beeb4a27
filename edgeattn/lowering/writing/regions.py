"""Regions of a network in which a map is written with one axis for each of its parts, all the way through.

The layers over the patches of a map see it as [rows, patch height, columns, patch width, C]. To reshape it for each
operator that needs the parts would cost two reshapes each; so all operators between two convolutions keep them.
"""

from __future__ import annotations

from edgeattn.lowering.axes import Axis, flat, leaves
from edgeattn.lowering.network import Network
from edgeattn.lowering.ops import Constant, Contract, Input, Op, Opaque, Softmax


def split_regions(network: Network) -> dict[Op, frozenset[Axis]]:
    """The axes that get a dimension of their own, for each operator of a region that needs it."""
    component: dict[Op, int] = {}
    members: list[list[Op]] = []
    for op in network.ops:
        if isinstance(op, Opaque | Constant | Input):
            continue
        joined = sorted({component[x] for x in op.inputs if x in component})
        if joined:
            home = joined[0]
            for other in joined[1:]:
                for moved in members[other]:
                    component[moved] = home
                members[home] += members[other]
                members[other] = []
        else:
            home = len(members)
            members.append([])
        component[op] = home
        members[home].append(op)
    result: dict[Op, frozenset[Axis]] = {}
    for ops in members:
        parts = _parts(ops)
        if parts:
            result |= dict.fromkeys(ops, parts)
    return result


def _parts(ops: list[Op]) -> frozenset[Axis]:
    """The parts of the maps that enter a region, if a softmax or a sum in it runs over some of them only."""
    inside = set(ops)
    maps = [
        leaves(flat(x.dims[2:]))
        for op in ops
        for x in op.inputs
        if x not in inside and isinstance(x, Opaque) and x.is_map
    ]
    for op in ops:
        if not isinstance(op, Softmax | Contract):
            continue
        over = leaves(op.over)
        for places in maps:
            some = [places.index(a) for a in over if a in places]
            if some and sorted(some) != list(range(min(some), min(some) + len(some))):
                return frozenset(places)
            if some and len(some) < len(places) and len(places) > 2:
                return frozenset(places)
    return frozenset()
