"""fp16 in ONNX by onnxruntime's converter: chooses the nodes that stay in fp32, and removes redundant casts."""

from typing import Any

from edgeattn.bundle.details import Details
from edgeattn.export.quantize import OWN, Job

# Sums and inverses over a whole map, and the exponential: an fp16 sum has 11 bits, and an epsilon of 1e-5 two digits.
_STATISTICS = ("ReduceMean", "ReduceSum", "ReduceMax", "Softmax", "Exp", "Sqrt", "Reciprocal")
_ELEMENTWISE = ("Add", "Sub", "Mul", "Div", "Pow")


def convert(model: Any, job: Job) -> Details:
    """Write ``job.path`` from the fp32 ``model``, which is changed. The details say what stays in fp32."""
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16
    from onnxruntime.transformers.onnx_model import OnnxModel

    own = job.edge_type == OWN
    names = _norms(model) | set(job.keep)
    kept = [node for node in model.graph.node if node.output[0] in names]
    converted = convert_float_to_float16(
        model,
        keep_io_types=not own,
        op_block_list=DEFAULT_OP_BLOCK_LIST,
        node_block_list=[node.name for node in kept],
    )
    _remove_redundant_casts(converted.graph)
    OnnxModel(converted).topological_sort()  # the converter puts its casts at the end
    job.path.write_bytes(converted.SerializeToString(deterministic=True))
    edges = "float16" if own else "float32"
    kinds = tuple(sorted({node.op_type for node in kept}))
    return Details(kept_in_fp32=kinds, kept_ops=len(kept), edges=edges)


def _remove_redundant_casts(graph: Any) -> None:
    """Remove casts between two nodes that both stay in fp32, and duplicate casts.

    The converter writes fp32 -> fp16 -> fp32 between such nodes, where a sum of squares overflows; and it repeats a
    cast for each reader.
    """
    import onnx

    nodes = {node.output[0]: node for node in graph.node}
    casts = {name: (node.input[0], node.attribute[0].i) for name, node in nodes.items() if node.op_type == "Cast"}
    for node in nodes.values():
        for index, name in enumerate(node.input):
            source, to = casts.get(name, ("", 0))
            origin, origin_to = casts.get(source, ("", 0))
            if (to, origin_to) == (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16):
                node.input[index] = origin
    outputs = {value.name for value in graph.output}
    while unread := casts.keys() & nodes.keys() - outputs - {name for n in nodes.values() for name in n.input}:
        nodes = {name: node for name, node in nodes.items() if name not in unread}
    del graph.node[:]
    graph.node.extend(nodes.values())


def _norms(model: Any) -> set[str]:
    """Outputs of the nodes of norms and softmax: statistics, and the elementwise nodes next to one."""
    import onnx_ir as ir

    def is_part(node: ir.Node) -> bool:
        if node.op_type in _ELEMENTWISE:
            return any(neighbour.op_type in _STATISTICS for neighbour in (*node.predecessors(), *node.successors()))
        return node.op_type in _STATISTICS

    return {str(node.outputs[0].name) for node in ir.from_proto(model).graph if is_part(node)}
