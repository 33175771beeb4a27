"""ExecuTorch's .pte files, through the graphs of their XNNPACK delegates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeattn.formats import _pte as pte
from edgeattn.parity.mutation import EPSILON, EPSILON_FACTOR, RELU, SOFTMAX, SUBTRACTION, Array, Edit, Editor, Weight
from edgeattn.system import files
from edgeattn.system.output import quiet

# Kernels -> the axis of their output channels.
_KERNELS = {"XNNConv2d": 0, "XNNDepthwiseConv2d": 3, "XNNFullyConnected": 0, "XNNConvTranspose2d": 0}
_TYPES = {"xnn_datatype_fp32": "<f4", "xnn_datatype_fp16": "<f2"}
Node = dict[str, Any]
# Each of these returns a function that changes the operator, or None where it does not apply.
Change = Callable[[], None]


@dataclass(frozen=True)
class _Graph:
    """The graph of delegate number ``number``: looks values and constants up."""

    parts: pte.Pte
    number: int

    @property
    def graph(self) -> dict[str, Any]:
        graph = self.parts.graphs[self.number]
        assert graph is not None
        return graph

    def value(self, identity: int) -> dict[str, Any] | None:
        return next((v for v in map(pte.tensor, self.graph["xvalues"]) if v["id_out"] == identity), None)

    def constant(self, identity: int) -> Array | None:
        """The value of a floating constant."""
        value = self.value(identity)
        if value is None or value["datatype"] not in _TYPES or not value["constant_buffer_idx"]:
            return None
        data = self.parts.data(self.graph, value["constant_buffer_idx"])
        return None if data is None else np.frombuffer(data, _TYPES[value["datatype"]]).reshape(value["dims"])

    def put(self, identity: int, constant: Array) -> None:
        value = self.value(identity)
        assert value is not None
        self.parts.put(self.graph, value["constant_buffer_idx"], constant.tobytes())

    def maker(self, identity: int) -> Node | None:
        """The node that computes a value."""
        made = (n for n in self.graph["xnodes"] if n["xnode_union"].get("output_id") == identity)
        return next(made, None)

    def name(self, identity: int) -> str:
        return f"{self.number}:{identity}"


class ExecuTorchEditor(Editor):
    def weights(self, path: Path) -> tuple[Weight, ...]:
        weights: dict[str, Weight] = {}
        for graph in _graphs(_unpack(path)):
            for node in graph.graph["xnodes"]:
                kind, union = node["xnode_union_type"], node["xnode_union"]
                if kind not in _KERNELS:
                    continue
                for identity, role, axis in (
                    (union["filter_id"], "weight", _KERNELS[kind]),
                    (union["bias_id"], "bias", 0),
                ):
                    value = graph.constant(identity)
                    is_epsilon = role == "bias" and _norm_of(graph, union["output_id"]) is not None
                    if value is not None and not is_epsilon:
                        weights.setdefault(graph.name(identity), Weight(graph.name(identity), value, role, axis))
        return tuple(weights.values())

    def edits(self, path: Path) -> tuple[Edit, ...]:
        edits, index = [], 0
        for graph in _graphs(_unpack(path)):
            for node in graph.graph["xnodes"]:
                place = graph.name(node["xnode_union"].get("output_id", 0))
                edits += [Edit(kind, index, place) for kind, prepare in _EDITS.items() if prepare(graph, node)]
                index += 1
        return tuple(edits)

    def write(
        self, source: Path, target: Path, replaced: Mapping[str, Array] | None = None, edit: Edit | None = None
    ) -> None:
        """A copy of ``source`` with other values of some weights, or with one operator changed."""
        parts, index = _unpack(source), 0
        for graph in _graphs(parts):
            for name, value in (replaced or {}).items():
                number, _, identity = name.partition(":")
                if int(number) == graph.number:
                    graph.put(int(identity), value)
            for node in list(graph.graph["xnodes"]):
                if edit is not None and edit.index == index:
                    change = _EDITS[edit.kind](graph, node)
                    if change is None:
                        raise ValueError(f"{edit.place} is not suited to this mutation: {edit.kind}")
                    change()
                index += 1
        with quiet():
            target.write_bytes(pte.pack(parts))


def _unpack(path: Path) -> pte.Pte:
    with quiet():
        return pte.unpack(files.read(path, 2**31))


def _graphs(parts: pte.Pte) -> list[_Graph]:
    return [_Graph(parts, number) for number, graph in enumerate(parts.graphs) if graph is not None]


def _norm_of(graph: _Graph, variance: int) -> Node | None:
    """The reciprocal root that reads a variance."""
    readers = [n for n in graph.graph["xnodes"] if n["xnode_union"].get("input_id") == variance]
    return next((n for n in readers if n["xnode_union_type"] == "XNNReciprocalSquareRoot"), None)


def _relu(graph: _Graph, node: Node) -> Change | None:
    limits = node.get("output_min_max")
    if not limits or limits["output_min"] != 0:
        return None
    return lambda: limits.update(output_min=float("-inf"))


def _subtraction(graph: _Graph, node: Node) -> Change | None:
    if node["xnode_union_type"] != "XNNAdd":
        return None
    return lambda: node.update(xnode_union_type="XNNSubtract")


def _epsilon(graph: _Graph, node: Node) -> Change | None:
    """The bias of the 1x1 convolution that gives a variance."""
    union = node["xnode_union"]
    if node["xnode_union_type"] != "XNNConv2d" or _norm_of(graph, union["output_id"]) is None:
        return None
    value = graph.constant(union["bias_id"])
    if value is None:
        return None
    return lambda: graph.put(union["bias_id"], np.asarray(value * EPSILON_FACTOR, value.dtype))


def _softmax(graph: _Graph, node: Node) -> Change | None:
    """Powers over their mean: the mean over the other side of the map, or over all pixels instead of some."""
    union = node["xnode_union"]
    if node["xnode_union_type"] != "XNNDiv":
        return None
    powers, mean = graph.maker(union["input1_id"]), graph.maker(union["input2_id"])
    if powers is None or mean is None or mean["xnode_union"].get("input_id") != union["input1_id"]:
        return None
    if powers["xnode_union_type"] == "XNNExp" and mean["xnode_union_type"] == "XNNAvgPooling2d":
        return _other_side(graph, powers, mean)
    if powers["xnode_union_type"] == "XNNMultiply" and mean["xnode_union_type"] == "XNNGlobalAvgPooling2d":
        return _all_pixels(graph, powers, mean)
    return None


def _other_side(graph: _Graph, powers: Node, mean: Node) -> Change | None:
    difference = graph.maker(powers["xnode_union"]["input_id"])
    largest = None if difference is None else graph.maker(difference["xnode_union"].get("input2_id", -1))
    if largest is None or largest["xnode_union_type"] != "XNNMaxPooling2d":
        return None
    before = graph.value(mean["xnode_union"]["input_id"])
    assert before is not None
    (batch, height, width, channels) = before["dims"]
    # It is over the rows alone, or where it was, over the columns alone.
    was = (mean["xnode_union"]["pooling_height"], mean["xnode_union"]["pooling_width"])
    kernel = (1, width) if was[1] != width and width > 1 else (height, 1)
    if kernel in ((1, 1), was):
        return None

    def change() -> None:
        for pool in (mean["xnode_union"], largest["xnode_union"]):
            pool.update(pooling_height=kernel[0], pooling_width=kernel[1])
            pool.update(stride_height=kernel[0], stride_width=kernel[1])
            made = graph.value(pool["output_id"])
            assert made is not None
            made["dims"] = [batch, height // kernel[0], width // kernel[1], channels]

    return change


def _all_pixels(graph: _Graph, powers: Node, mean: Node) -> Change | None:
    """The powers without the masks, one channel for each offset."""
    unmasked = graph.maker(powers["xnode_union"]["input1_id"])
    if unmasked is None or unmasked["xnode_union_type"] != "XNNExp":
        return None

    def change() -> None:
        mean["xnode_union"]["input_id"] = unmasked["xnode_union"]["output_id"]
        made = graph.value(mean["xnode_union"]["output_id"])
        assert made is not None
        made["dims"] = [*made["dims"][:3], 1]

    return change


_EDITS: dict[str, Callable[[_Graph, Node], Change | None]] = {
    SOFTMAX: _softmax,
    RELU: _relu,
    SUBTRACTION: _subtraction,
    EPSILON: _epsilon,
}
EDITOR: Editor = ExecuTorchEditor()
