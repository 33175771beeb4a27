"""What a program takes and gives, changed in place: every value as an output, or float32 for float16."""

from typing import Any

from edgeattn.formats.aimodel.program import Program, Step, type_of


def exposed(program: Program) -> dict[str, Step]:
    """Make every value of the main graph's operators an output in place of its own; returns the operators by the names
    of their values, in order. What is inside a composite is not seen, and constants are no values."""
    found = {
        name: (step, value)
        for step in program.steps()
        if step.kind != "constant"
        for name, value in zip(step.results, step.op.results, strict=True)
        if type_of(value.type).dtype != "other"
    }
    _give(program.main, [value for _, value in found.values()], list(found))
    return {name: step for name, (step, _) in found.items()}


def in_float32(program: Program) -> None:
    """Let the main graph take and give float32 where it takes and gives float16, by a cast on either side."""
    from coreai._compiler.ir import InsertionPoint

    graph = program.main
    block = graph.regions[0].blocks[0]
    for argument in block.arguments:
        if type_of(argument.type).dtype == "float16":
            with graph.context, graph.location, InsertionPoint.at_block_begin(block):
                half = argument.type
                argument.set_type(_float32(half))
                cast = _cast(argument, half)
            argument.replace_all_uses_except(cast, cast.owner)
    *_, last = block.operations
    values = []
    for value in last.operands:
        if type_of(value.type).dtype == "float16":
            with graph.context, graph.location, InsertionPoint(last):
                value = _cast(value, _float32(value.type))
        values.append(value)
    _, outputs = program.edges()
    _give(graph, values, [name for name, _ in outputs])


def _give(graph: Any, values: list[Any], names: list[str]) -> None:
    """Let a graph give back these values, by these names."""
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import ArrayAttr, DictAttr, FunctionType, InsertionPoint, StringAttr, TypeAttr

    block = graph.regions[0].blocks[0]
    *_, last = block.operations
    with graph.context, graph.location:
        with InsertionPoint(last):
            coreai.output(values)
        last.erase()
        taken, given = [argument.type for argument in block.arguments], [value.type for value in values]
        graph.attributes["function_type"] = TypeAttr.get(FunctionType.get(taken, given))
        attributes = [DictAttr.get({"coreai.name": StringAttr.get(name)}) for name in names]
        graph.attributes["res_attrs"] = ArrayAttr.get(attributes)


def _float32(kind: Any) -> Any:
    from coreai._compiler.ir import F32Type, RankedTensorType

    return RankedTensorType.get(list(kind.shape), F32Type.get())


def _cast(value: Any, kind: Any) -> Any:
    from coreai._compiler.ir import Operation

    return Operation.create("coreai.cast", results=[kind], operands=[value]).results[0]
