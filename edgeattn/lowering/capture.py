"""What a module computes: its ATen graph by torch.export, in float64, with its weights as constants.

Class names and module trees say nothing certain of what is computed; the graph does, hooks, aliases and
reparametrised weights included. In float64, so that every rewrite can be compared with what it replaces; the rounding
to float32 comes last, once.
"""

import copy
import operator
from collections.abc import Callable, Collection, Sequence
from functools import cache
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.export.graph_signature import ConstantArgument, InputKind, OutputKind

from edgeattn.errors import BadInputError, LoweringError
from edgeattn.system.output import quiet
from edgeattn.system.vendor_errors import first_line

# What is written in simpler operators first: the passes then know one spelling of each.
_DECOMPOSED = (
    "einsum", "addcmul", "addcdiv", "baddbmm", "instance_norm", "rms_norm", "square",
    "cosine_similarity", "tensordot", "inner",
)  # fmt: skip

_FULL = frozenset({torch.float32, torch.float64})
# A table of more values is computed where it is read.
_MOST_FOLDED = 1 << 22


def capture(module: nn.Module, inputs: Sequence[Tensor], root: str = "") -> fx.GraphModule:
    """The graph of ``module``, from its inputs in order to a flat tuple of its outputs.

    Args:
        module: in evaluation mode.
        inputs: positional example inputs, which the shapes in the graph are those of.
        root: the path of the module in it that the paths of the nodes are seen from.

    Raises:
        LoweringError: torch.export refuses the module, or it changes a state of its own; one sentence.
        BadInputError: no graph can hold what it does; torch.onnx would end the process by SIGSEGV.
    """
    try:
        with quiet(), torch.no_grad():
            program = torch.export.export(module, tuple(inputs), strict=False)
            program = program.run_decompositions(_table())
    except Exception as error:  # the module's own code runs in it
        if "We found a fake tensor in the exported program constant's list" in str(error):
            raise BadInputError(
                "the module computes with x.data, or with a tensor that it takes out of PyTorch, of which no graph has "
                "a trace: use x.detach(), and PyTorch's own functions"
            ) from error
        raise LoweringError(f"torch.export refuses it: {first_line(error)}") from error
    graph = _unlifted(program)
    if root:
        _seen_from(root, graph)
    # A network of half precision is exact in float64 as any other; half precision inside a network stays what it is.
    outer = {x.dtype for x in inputs if x.is_floating_point()}
    return _folded(with_dtype(graph, torch.float64, {*_FULL, *outer}))


def _seen_from(root: str, module: fx.GraphModule) -> None:
    """Leave out of every node's stack of modules those outside of ``root``, and ``root`` out of the others' paths."""
    for node in module.graph.nodes:
        stack = node.meta.get("nn_module_stack")
        if stack:
            node.meta["nn_module_stack"] = {
                key: (str(path)[len(root) + 1 :], kind)
                for key, (path, kind) in stack.items()
                if path == root or str(path).startswith(f"{root}.")
            }


def _folded(module: fx.GraphModule) -> fx.GraphModule:
    """With everything that does not depend on an input as a constant: reparametrised weights, tables of indices."""
    fixed: dict[fx.Node, Any] = {}
    with torch.no_grad():
        for node in module.graph.nodes:
            if node.op == "get_attr":
                fixed[node] = getattr(module, str(node.target))
            elif node.op == "call_function" and all(n in fixed for n in node.all_input_nodes) and not is_random(node):
                value = node.target(
                    *fx.node.map_arg(node.args, fixed.__getitem__), **fx.node.map_arg(node.kwargs, fixed.__getitem__)
                )
                if not isinstance(value, Tensor) or value.numel() <= _MOST_FOLDED:
                    fixed[node] = value
    for node, value in fixed.items():
        if node.op == "call_function" and isinstance(value, Tensor) and any(user not in fixed for user in node.users):
            name = f"folded_{node.name}"
            module.register_buffer(name, value)
            with module.graph.inserting_before(node):
                constant = module.graph.get_attr(name)
            constant.meta = dict(node.meta)
            node.replace_all_uses_with(constant)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module


def is_random(node: fx.Node) -> bool:
    """Whether an operator draws random numbers: without any input it is no constant."""
    return torch.Tag.nondeterministic_seeded in getattr(node.target, "tags", ())


@cache
def _table() -> dict[Any, Callable[..., Any]]:
    table: Any = torch.export.default_decompositions()
    return {op: rule for op, rule in table.items() if op.name().removeprefix("aten::").split(".")[0] in _DECOMPOSED}


def _unlifted(program: Any) -> fx.GraphModule:
    """The program with its weights as attributes, and its own outputs alone."""
    root = nn.Module()
    graph = fx.Graph()
    signature = program.graph_signature
    changed = [s for s in signature.output_specs if s.kind not in (OutputKind.USER_OUTPUT,)]
    if changed:
        raise LoweringError("it changes a state of its own when it runs")
    tensors = {**program.state_dict, **program.constants}
    nodes: dict[fx.Node, Any] = {}
    specs = iter(signature.input_specs)
    for node in program.graph.nodes:
        if node.op == "placeholder":
            spec = next(specs)
            if spec.kind == InputKind.USER_INPUT:
                if isinstance(spec.arg, ConstantArgument):
                    nodes[node] = spec.arg.value
                    continue
                nodes[node] = graph.placeholder(node.name)
                nodes[node].meta = dict(node.meta)
            elif isinstance(tensors.get(spec.target), Tensor):
                name = f"weight_{len(nodes)}"
                root.register_buffer(name, tensors[spec.target].detach().clone())
                nodes[node] = graph.get_attr(name)
            else:
                raise LoweringError(f"it holds something that is no tensor, {spec.target}")
        elif node.op == "output":
            results = [nodes[n] if isinstance(n, fx.Node) else n for n in node.args[0]]
            if any(not isinstance(result, fx.Node | None) for result in results):
                raise LoweringError("it gives back something that is no tensor")
            graph.output(tuple(result for result in results if result is not None))
        elif "_assert" not in str(node.target):
            nodes[node] = graph.node_copy(node, lambda n: nodes[n])
            if node.op == "get_attr":
                raise LoweringError("it chooses between branches when it runs")
    for node in graph.nodes:
        if node.target is torch.ops.aten.view.default:  # what is before it may come to lie otherwise
            node.target = torch.ops.aten.reshape.default
        if any(isinstance(value, torch.SymInt) for value in _flat((node.meta.get("val"),))):
            raise LoweringError("the shapes of its values depend on their contents")
    return fx.GraphModule(root, graph)


def _flat(values: Any) -> list[Any]:
    return [y for x in values for y in (_flat(x) if isinstance(x, list | tuple) else [x])]


def with_dtype(module: fx.GraphModule, dtype: torch.dtype, types: Collection[torch.dtype] = _FULL) -> fx.GraphModule:
    """A copy in which each of ``types``, by default float32 and float64, is ``dtype``, in tensors and in arguments."""
    other = dict.fromkeys(types, dtype)
    module = copy.deepcopy(module)
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target is not operator.getitem:
            node.args = fx.node.map_aggregate(node.args, lambda a: _dtype(a, other))
            node.kwargs = fx.node.map_aggregate(node.kwargs, lambda a: _dtype(a, other))
            value = node.meta.get("val")
            made = not node.all_input_nodes and isinstance(value, Tensor) and value.dtype in other
            if made and any(a.name == "dtype" for a in node.target._schema.arguments):
                node.kwargs = {**node.kwargs, "dtype": dtype}  # zeros(n) is of the default type
            elif not made and isinstance(value, Tensor) and value.dtype in other and _from_integers(module, node):
                with module.graph.inserting_after(node):  # and so is an integer times 0.5
                    cast = module.graph.call_function(torch.ops.aten._to_copy.default, (node,), {"dtype": dtype})
                cast.meta = dict(node.meta)
                node.replace_all_uses_with(cast, delete_user_cb=lambda user, cast=cast: user is not cast)
    module.recompile()
    return module._apply(lambda t: t.to(other.get(t.dtype, t.dtype)))  # type: ignore[no-any-return, no-untyped-call]


def _from_integers(module: fx.GraphModule, node: fx.Node) -> bool:
    """Whether none of an operator's tensors is of floating type, and none is asked for."""
    tensors = [
        getattr(module, str(n.target)) if n.op == "get_attr" else n.meta.get("val") for n in node.all_input_nodes
    ]
    asked = any(isinstance(a, torch.dtype) for a in (*node.args, *node.kwargs.values()))
    return not asked and all(isinstance(x, Tensor) and not x.is_floating_point() for x in tensors)


def rounds_inside(module: fx.GraphModule) -> bool:
    """Whether the network names a floating type inside: a softmax in float32, say."""
    return any(
        isinstance(a, torch.dtype) and a.is_floating_point
        for node in module.graph.nodes
        if node.op == "call_function" and node.all_input_nodes
        for a in [*node.args, *node.kwargs.values()]
    )


def _dtype(argument: Any, other: dict[torch.dtype, torch.dtype]) -> Any:
    return other.get(argument, argument) if isinstance(argument, torch.dtype) else argument
