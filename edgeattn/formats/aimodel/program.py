"""The program inside an asset: its graphs, operators and constants, in MLIR as Apple's bindings give it.

Whatever edgeattn asks of these bindings is here. Values and operators are pointers into the :class:`Program`: keep it
while they are used. ``coreai.NAME`` and ``coreai.decomposable.NAME`` are one operator, NAME.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, prod
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

_RESOURCE = re.compile(r"dense_resource<([^_>]*)")
_DECLARED = re.compile(r'composite_declaration<"([^"]+)"')
_SCALED = "coreai.blockwise_shift_scale"
# What gives back the values of a graph, a loop or a branch.
_ENDS = ("coreai.condition", "coreai.output", "coreai.yield")
_PREFIXES = ("coreai.decomposable.", "coreai.")
# What MLIR calls signed integers, and floating types, in numpy's words.
_NUMPY = {"i1": "bool", "f16": "float16", "f32": "float32", "f64": "float64", "bf16": "bfloat16"}
_SIGNS = (("ui", "uint"), ("si", "int"), ("i", "int"), ("f", "float"))


@dataclass(frozen=True)
class Type:
    """Of a value: its shape, with None for a free axis, and its elements' type in numpy's words; ``int4`` and other
    types that numpy lacks are named in the same manner."""

    shape: tuple[int | None, ...]
    dtype: str
    bits: int

    @property
    def itemsize(self) -> int:
        """Bytes of one element, those of a part of a byte as one."""
        return ceil(self.bits / 8)


@dataclass(frozen=True)
class Step:
    """One operator: ``kind`` is its name without prefixes, or what a composite stands for; ``name`` is its own in the
    program; ``op`` is MLIR's object, a pointer that is good as long as the ``program`` is."""

    kind: str
    name: str
    op: Any
    program: "Program"

    @property
    def results(self) -> tuple[str, ...]:
        """The names of its values."""
        number = len(self.op.results)
        return (self.name,) if number == 1 else tuple(f"{self.name}.{i}" for i in range(number))


class Program:
    """A program; ``vendors`` is Apple's own object."""

    def __init__(self, vendors: Any) -> None:
        self.vendors = vendors
        self.module = vendors._module._mlir_module
        graphs = [op for op in self.module.body.operations if op.name == "coreai.graph"]
        self.graphs = {str(graph.attributes["sym_name"].value): graph for graph in graphs}

    @property
    def main(self) -> Any:
        """The graph that is run: ``main``, or the only one that is not private.

        Raises:
            ValueError: there is none, or there are several.
        """
        public = [name for name, graph in self.graphs.items() if "priv" not in graph.attributes]
        name = "main" if "main" in self.graphs else next(iter(public), "")
        if name not in self.graphs or (name != "main" and len(public) > 1):
            raise ValueError(f"it has the functions {', '.join(public) or 'none'}, and none is called main")
        return self.graphs[name]

    def steps(self, graph: Any = None) -> tuple[Step, ...]:
        """The operators of a graph, in order; of the main one by default. Names repeat in no graph."""
        return self._steps((self.main if graph is None else graph).regions[0].blocks[0])

    def _steps(self, block: Any) -> tuple[Step, ...]:
        ops = (op for op in block.operations if op.name not in _ENDS)
        return tuple(Step(self.kind(op), f"{self.kind(op)}_{number}", op, self) for number, op in enumerate(ops))

    def kind(self, op: Any) -> str:
        """The operator's name without prefixes; of a call, what the composite that it calls stands for."""
        if op.name == "coreai.invoke" and (called := self.called(op)) is not None:
            return self._stands_for(called)
        return next((op.name.removeprefix(p) for p in _PREFIXES if op.name.startswith(p)), str(op.name))

    def called(self, op: Any) -> Any:
        """The graph that an ``invoke`` calls, or None."""
        text = str(op.attributes["callee"])
        return self.graphs.get(text[text.find("@") + 1 : text.find(">")])

    def inside(self) -> Iterator[Step]:
        """All operators that run: those of composites in place of their calls, and those of loops and branches once.

        Raises:
            ValueError: a composite calls itself.
        """
        yield from self._inside(self.main, "", ())

    def _inside(self, owner: Any, prefix: str, above: tuple[Any, ...]) -> Iterator[Step]:
        if owner in above:
            raise ValueError("one of its functions calls itself")
        for block in (block for region in owner.regions for block in region.blocks):
            for step in self._steps(block):
                called = self.called(step.op) if step.op.name == "coreai.invoke" else None
                if called is None:
                    yield Step(step.kind, prefix + step.name, step.op, self)
                yield from self._inside(called or step.op, f"{prefix}{step.name}/", (*above, owner))

    def edges(self) -> tuple[list[tuple[str, Type]], list[tuple[str, Type]]]:
        """The inputs and the outputs of the main graph, by their names."""
        graph = self.main
        arguments = [type_of(argument.type) for argument in graph.regions[0].blocks[0].arguments]
        results = [type_of(value.type) for value in self.returned(graph)]
        names = [[_name(entry) for entry in graph.attributes[key]] for key in ("arg_attrs", "res_attrs")]
        inputs, outputs = (list(zip(n, t, strict=True)) for n, t in zip(names, (arguments, results), strict=True))
        return inputs, outputs

    def returned(self, graph: Any) -> list[Any]:
        """The values that a graph gives back."""
        *_, last = graph.regions[0].blocks[0].operations
        return list(last.operands)

    @staticmethod
    def replace(op: Any, value: Array) -> None:
        """Give a constant another value of its own type."""
        op.attributes["value"] = _elements(op, value)

    @staticmethod
    def put(op: Any, operand: int, value: Array) -> None:
        """Give an operator a constant of its own, of the same type, in place of one of its operands."""
        from coreai._compiler.ir import InsertionPoint

        with op.context, op.location, InsertionPoint(op):
            op.operands[operand] = _constant(op.operands[operand].type, value)

    def normalise(self) -> None:
        """Take out what differs between two conversions of one module, the names of resources and composites, and
        move a constant's values here rather than in an operator of the file."""
        self._fold_transposed()
        self._name_composites()
        for op in list(self.constants()):
            if found := _RESOURCE.match(str(op.attributes["value"])):
                value = constant(op)
                if found[1] != _resource_name(op.results[0].type, value):
                    op.attributes["value"] = _elements(op, value)

    def constants(self) -> Iterator[Any]:
        """All constants of all graphs."""
        for graph in self.graphs.values():
            yield from (step.op for step in self.steps(graph) if step.kind == "constant")

    def _fold_transposed(self) -> None:
        from coreai._compiler.ir import InsertionPoint

        for graph in self.graphs.values():
            for step in self.steps(graph):
                if step.kind != "transpose" or not is_constant(step.op.operands[1]):
                    continue
                x, order = step.op.operands
                axes = [int(axis) for axis in constant(order.owner)]
                with step.op.context, step.op.location, InsertionPoint(step.op):
                    made = _transposed(x, axes, step.op.results[0].type)
                if made is not None:
                    step.op.results[0].replace_all_uses_with(made)
                    step.op.erase()
            _without_unused(graph)

    def _name_composites(self) -> None:
        from coreai._compiler.ir import Attribute, StringAttr

        names: dict[str, str] = {}
        for own, graph in self.graphs.items():
            if "priv" in graph.attributes and (kind := self._stands_for(graph)) != own:
                number = sum(name.rpartition("_")[0] == kind for name in names.values())
                names[own] = f"{kind}_{number}"
        calls = [step.op for graph in self.graphs.values() for step in self.steps(graph)]
        calls = [op for op in calls if op.name == "coreai.invoke"]
        # Twice: a new name may be another's old one.
        for targets in ({own: f"{own}__" for own in names}, {f"{own}__": name for own, name in names.items()}):
            with self.module.context:
                for op in calls:
                    text = str(op.attributes["callee"])
                    own = text[text.find("@") + 1 : text.find(">")]
                    if own in targets:
                        op.attributes["callee"] = Attribute.parse(text.replace(f"@{own}>", f"@{targets[own]}>"))
                for graph in self.graphs.values():
                    if (own := str(graph.attributes["sym_name"].value)) in targets:
                        graph.attributes["sym_name"] = StringAttr.get(targets[own])
        self.graphs = {str(graph.attributes["sym_name"].value): graph for graph in self.graphs.values()}

    def _stands_for(self, graph: Any) -> str:
        """What a composite declares to be, without the letters at random behind its name."""
        declared = (
            _DECLARED.search(str(graph.attributes["composite_decl"])) if "composite_decl" in graph.attributes else None
        )
        return declared[1] if declared else str(graph.attributes["sym_name"].value)


def type_of(value: Any) -> Type:
    """The type of a value that is a tensor; ``other`` for what is none, as a token."""
    from coreai._compiler.ir import RankedTensorType

    if not isinstance(value, RankedTensorType):
        return Type((), "other", 8)
    shape = tuple(None if value.is_dynamic_dim(i) else int(value.shape[i]) for i in range(value.rank))
    text = str(value.element_type)
    dtype = _NUMPY.get(text) or next((to + text[len(of) :] for of, to in _SIGNS if text.startswith(of)), text)
    return Type(shape, dtype, int(getattr(value.element_type, "width", 8)))


def is_constant(value: Any) -> bool:
    """Whether a value is a constant of its graph."""
    return getattr(value.owner, "name", "") == "coreai.constant"


def constant(op: Any) -> Array:
    """The value of a constant, in its own type; of a type that numpy lacks, the bytes.

    Raises:
        ValueError: it has a free axis, or is no tensor.
    """
    from coreai._compiler._mlir_libs._coreaiIR._bindings.compiler import copy_constant_value_to_array

    kind = type_of(op.results[0].type)
    shape = tuple(n for n in kind.shape if n is not None)
    if len(shape) < len(kind.shape) or kind.dtype == "other":
        raise ValueError("a constant has no fixed shape")
    content = np.zeros(ceil(prod(shape) * kind.bits / 8), np.uint8)
    copy_constant_value_to_array(constant_op=op, destination=content)
    if kind.bits < 8 or not hasattr(np, kind.dtype):
        return content
    return content.view(kind.dtype).reshape(shape)


def _name(entry: Any) -> str:
    """The name of an input or an output, from its attributes; "" where it has none."""
    return str(entry["coreai.name"].value) if "coreai.name" in entry else ""


def _elements(op: Any, value: Array) -> Any:
    """A constant's attribute. Long ones are resources of the file, with a name made of their content."""
    with op.context, op.location:
        return _attribute(op.results[0].type, op.location, value)


def _attribute(kind: Any, location: Any, value: Array) -> Any:
    from coreai._compiler._mlir_libs._coreaiIR._bindings.mlir.dialects.coreai import create_elements_attr
    from coreai._compiler.ir import DenseResourceElementsAttr

    content = np.ascontiguousarray(value)
    made = create_elements_attr(location, kind, content)
    if not _RESOURCE.match(str(made)):
        return made
    return DenseResourceElementsAttr.get_from_buffer(content, _resource_name(kind, content), kind)


def _resource_name(kind: Any, content: Array) -> str:
    """Of the content; MLIR puts a number behind one that repeats."""
    return f"w{hashlib.sha256(str(kind).encode() + content.tobytes()).hexdigest()[:16]}"


def _constant(kind: Any, value: Array) -> Any:
    """A new constant at the present place."""
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import Location

    return coreai.ConstantOp(value=_attribute(kind, Location.current, value)).result


def _transposed(x: Any, axes: list[int], kind: Any) -> Any:
    """The transposed of a constant, or of one in eight bits with its scales, at the present place; else None."""
    from coreai._compiler.ir import Operation, RankedTensorType

    if is_constant(x):
        return _constant(kind, np.ascontiguousarray(constant(x.owner).transpose(axes)))
    parts = list(getattr(x.owner, "operands", ())) if getattr(x.owner, "name", "") == _SCALED else []
    if not parts or not all(is_constant(v) and len(type_of(v.type).shape) == len(axes) for v in parts):
        return None
    if any(type_of(v.type).bits < 8 for v in parts):
        return None
    types = [RankedTensorType.get([v.type.shape[a] for a in axes], v.type.element_type) for v in parts]
    made = [_transposed(v, axes, of) for v, of in zip(parts, types, strict=True)]
    return Operation.create(_SCALED, results=[kind], operands=made).results[0]


def _without_unused(graph: Any) -> None:
    for op in reversed(list(graph.regions[0].blocks[0].operations)):
        if op.name in ("coreai.constant", _SCALED) and not any(True for _ in op.results[0].uses):
            op.erase()
