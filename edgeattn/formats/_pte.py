"""A .pte file as its parts, and back: ExecuTorch's program, and the graphs of its XNNPACK delegates.

ExecuTorch's package has readers of both, for its own tools; what is private there is used here alone.
"""

import hashlib
import json
import re
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from importlib.resources import files as resources
from math import prod
from pathlib import Path
from typing import Any

XNNPACK = "XnnpackBackend"
# The method that is run; the others give constants, as ExecuTorch's own metadata.
MAIN = "forward"
# The method that gives, as JSON, why the partitioner left operators out.
LEFT = "edgeattn.not_delegated"
# The external id of a value that has none.
NO_ID = 2**32 - 1
# XNN_VALUE_FLAG_EXTERNAL_OUTPUT, and the types of values that are tensors of ExecuTorch's too.
_EXTERNAL_OUTPUT = 2
_WHOLE = {"xnn_datatype_fp32": "FLOAT", "xnn_datatype_fp16": "HALF"}


@dataclass(frozen=True)
class Pte:
    """A file: ExecuTorch's ``PTEFile``, and the graph of each delegate of its main method, None for one that is not
    XNNPACK's. All of it may be changed, and written by :func:`pack`."""

    file: Any
    graphs: tuple[dict[str, Any] | None, ...]

    @property
    def plan(self) -> Any:
        """The ``ExecutionPlan`` of the main method."""
        plans = {plan.name: plan for plan in self.file.program.execution_plan}
        return plans[main_method(plans)]

    def constants(self, name: str) -> list[Any]:
        """What a method that gives constants gives; empty if there is no such method."""
        plans = [plan for plan in self.file.program.execution_plan if plan.name == name]
        return [next(iter(vars(plan.values[i].val).values())) for plan in plans for i in plan.outputs]

    def data(self, graph: dict[str, Any], index: int) -> bytes | None:
        """The bytes of an XNNPACK value's constant; None if it has none, or they lie in the delegate itself."""
        key = graph["constant_data"][index]["named_key"] if index else ""
        store = self.file.named_data
        if not key or store is None or key not in store.pte_data:
            return None
        return bytes(store.buffers[store.pte_data[key].buffer_index])

    def put(self, graph: dict[str, Any], index: int, content: bytes) -> None:
        """Give a constant other bytes of the same length; what shares the old ones keeps them."""
        store, place = self.file.named_data, graph["constant_data"][index]
        old = store.pte_data[place["named_key"]]
        place["named_key"] = hashlib.sha256(content).hexdigest()
        store.pte_data[place["named_key"]] = replace(old, buffer_index=len(store.buffers))
        store.buffers.append(content)


def main_method(names: Collection[str]) -> str:
    """The method that is run: ``forward``, or else the first by name."""
    return MAIN if MAIN in names else min(names)


def unpack(content: bytes, *, graphs: bool = True) -> Pte:
    """The parts of a file; without ``graphs`` those of its delegates are left out.

    Raises:
        ValueError: it is none.
    """
    from executorch.exir._serialize._program import deserialize_pte_binary

    if not re.match(rb"ET\d\d", content[4:8]):
        raise ValueError("it does not start as a .pte file does")
    file = deserialize_pte_binary(content)
    if not file.program.execution_plan:
        raise ValueError("it has no method")
    result = Pte(file, ())
    if not graphs:
        return result
    delegates = result.plan.delegates
    return Pte(file, tuple(_xnnpack(_payload(file, d)) if d.id == XNNPACK else None for d in delegates))


def pack(pte: Pte) -> bytes:
    """The file of these parts."""
    from executorch.exir._serialize._program import serialize_pte_binary
    from executorch.exir.schema import DataLocation

    data = pte.file.program.backend_delegate_data
    for delegate, graph in zip(pte.plan.delegates, pte.graphs, strict=bool(pte.graphs)):
        if graph is not None:
            assert delegate.processed.location == DataLocation.INLINE
            entry = data[delegate.processed.index]
            entry.data = _with_graph(entry.data, graph)
    return bytes(serialize_pte_binary(pte.file, extract_delegate_segments=True))


def with_all_outputs(pte: Pte) -> list[tuple[str, str]]:
    """Make every value of every operator an output, behind those that there are: the name and kind of each.

    Each gets memory of its own, where values that do not live at the same time shared it.
    """
    from executorch.exir.schema import DelegateCall, EValue, KernelCall, Tensor

    plan, observed = pte.plan, []
    calls = [i.instr_args for chain in plan.chains for i in chain.instructions]
    for call in calls:
        if isinstance(call, KernelCall):
            name = plan.operators[call.op_index].name.rpartition("::")[2]
            if isinstance(plan.values[call.args[-1]].val, Tensor):
                observed.append((call.args[-1], f"{name}:{call.args[-1]}", name))
        elif isinstance(call, DelegateCall) and (graph := pte.graphs[call.delegate_index]) is not None:
            like = next(v.val for v in plan.values if isinstance(v.val, Tensor) and v.val.allocation_info is not None)
            kinds = _kinds(graph)
            external = {v["id_out"]: v["external_id"] for v in map(tensor, graph["xvalues"])}
            outputs = sorted(graph["output_ids"], key=external.__getitem__)
            places = dict(zip(outputs, call.args[len(graph["input_ids"]) :], strict=True))
            for value in _made_external(graph, kinds):
                plan.values.append(EValue(_tensor_like(like, value)))
                call.args.append(len(plan.values) - 1)
                places[value["id_out"]] = call.args[-1]
            observed += ((places[i], f"{call.delegate_index}:{i}", kinds[i]) for i in kinds if i in places)
    plan.outputs += [index for index, _, _ in observed]
    _apart(plan)
    return [(name, kind) for _, name, kind in observed]


def _kinds(graph: dict[str, Any]) -> dict[int, str]:
    """The kind of node that computes a value, by the value's number."""
    return {
        v: node["xnode_union_type"].removeprefix("XNN")
        for node in graph["xnodes"]
        for key, v in node["xnode_union"].items()
        if key.startswith("output")
    }


def _made_external(graph: dict[str, Any], kinds: dict[int, str]) -> list[dict[str, Any]]:
    """Make the values that nodes compute outputs of a delegate; those that were none before."""
    new = []
    for value in map(tensor, graph["xvalues"]):
        if value["id_out"] in kinds and value["external_id"] == NO_ID and value["datatype"] in _WHOLE:
            value["external_id"], value["flags"] = graph["num_externs"], value["flags"] | _EXTERNAL_OUTPUT
            graph["output_ids"].append(value["id_out"])
            graph["num_externs"] += 1
            new.append(value)
    return new


def _tensor_like(like: Any, value: dict[str, Any]) -> Any:
    from executorch.exir.scalar_type import ScalarType

    dims = list(value["dims"])
    kind = ScalarType[_WHOLE[value["datatype"]]]
    return replace(like, scalar_type=kind, sizes=dims, dim_order=list(range(len(dims))), data_buffer_idx=0)


def _apart(plan: Any) -> None:
    """Give every tensor that is planned into memory a place of its own."""
    from executorch.exir.schema import AllocationDetails, Tensor

    end = 0
    for value in plan.values:
        if isinstance(value.val, Tensor) and value.val.allocation_info is not None:
            value.val.allocation_info = AllocationDetails(1, end % 2**32, end >> 32)
            end += -(-8 * prod(value.val.sizes) // 64) * 64
    plan.non_const_buffer_sizes = [0, max(end, 64)]


def settled(content: bytes) -> bytes:
    """The same file, in which a map of one channel, or of one pixel, lies in the first of its orders.

    It lies in several, by the strides that PyTorch happens to give it; a delegate takes it to be in the first, and its
    results do not fit a tensor that says another.
    """
    from executorch.exir.schema import Tensor

    parts = unpack(content, graphs=False)
    for value in parts.plan.values:
        sizes: list[int] = value.val.sizes if isinstance(value.val, Tensor) else []
        if len(sizes) == 4 and (sizes[1] == 1 or sizes[2] == sizes[3] == 1):
            value.val.dim_order = [0, 1, 2, 3]
    return pack(parts)


def tensor(value: dict[str, Any]) -> dict[str, Any]:
    """The tensor of an XNNPACK value, which has steps or not."""
    union: dict[str, Any] = value["xvalue_union"]
    inner: dict[str, Any] = union.get("tensor_value", union)
    return inner


def left(pte: Pte) -> dict[str, list[tuple[str, str]]]:
    """Why operators were left out of the delegates, and the module that they come from, as the converter noted it: by
    the operator's name, in the order of the program."""
    noted: dict[str, list[tuple[str, str]]] = {}
    try:
        for name, reason, module in json.loads("".join(pte.constants(LEFT)) or "[]"):
            noted.setdefault(str(name), []).append((str(reason), str(module)))
    except (TypeError, ValueError):
        return {}
    return noted


def _payload(file: Any, delegate: Any) -> bytes:
    return bytes(file.program.backend_delegate_data[delegate.processed.index].data)


def _header(data: bytes) -> Any:
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader

    return XNNHeader.from_bytes(data[: XNNHeader.EXPECTED_LENGTH])


def _xnnpack(data: bytes) -> dict[str, Any]:
    from executorch.exir._serialize._flatbuffer import _flatc_decompile

    header = _header(data)
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        folder = Path(scratch)
        schema, binary = _schema(folder), folder / "graph.bin"
        binary.write_bytes(data[header.flatbuffer_offset :][: header.flatbuffer_size])
        _flatc_decompile(scratch, str(schema), str(binary), ["--raw-binary"])
        text = (folder / "graph.json").read_text()
    # flatc writes what JSON does not have.
    graph: dict[str, Any] = json.loads(re.sub(r"(: *-?)inf\b", r"\1Infinity", text))
    return graph


def _with_graph(data: bytes, graph: dict[str, Any]) -> bytes:
    """A delegate's payload with another graph, and the same constants."""
    from executorch.backends.xnnpack.serialization.xnnpack_graph_serialize import XNNHeader
    from executorch.exir._serialize._flatbuffer import _flatc_compile

    header = _header(data)
    constants = data[header.constant_data_offset :][: header.constant_data_size]
    with tempfile.TemporaryDirectory(prefix="edgeattn-") as scratch:
        folder = Path(scratch)
        schema, source = _schema(folder), folder / "graph.json"
        source.write_text(re.sub(r"(: *-?)Infinity\b", r"\1inf", json.dumps(graph)))
        _flatc_compile(scratch, str(schema), str(source))
        flatbuffer = (folder / "graph.bin").read_bytes()
    start = _aligned(XNNHeader.EXPECTED_LENGTH)
    behind = start + _aligned(len(flatbuffer))
    head: bytes = XNNHeader(start, len(flatbuffer), behind, len(constants)).to_bytes()
    return head.ljust(start, b"\0") + flatbuffer.ljust(behind - start, b"\0") + constants


def _aligned(length: int) -> int:
    return -(-length // 16) * 16


def _schema(folder: Path) -> Path:
    import executorch.backends.xnnpack.serialization as package

    path = folder / "schema.fbs"
    path.write_bytes(resources(package).joinpath("schema.fbs").read_bytes())
    return path
