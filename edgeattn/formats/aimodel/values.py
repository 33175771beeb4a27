"""A program in which every value is an output: what is computed inside, by the names that the reader gives."""

from edgeattn.formats.aimodel.program import Program, Step, type_of


def exposed(program: Program) -> dict[str, Step]:
    """Make every value of the main graph's operators an output in place of its own; returns the operators by the names
    of their values, in order. What is inside a composite is not seen, and constants are no values."""
    from coreai._compiler.dialects import coreai
    from coreai._compiler.ir import ArrayAttr, DictAttr, FunctionType, InsertionPoint, StringAttr, TypeAttr

    graph = program.main
    block = graph.regions[0].blocks[0]
    found = {
        name: (step, value)
        for step in program.steps()
        if step.kind != "constant"
        for name, value in zip(step.results, step.op.results, strict=True)
        if type_of(value.type).dtype != "other"
    }
    values = [value for _, value in found.values()]
    *_, last = block.operations
    with graph.context, graph.location:
        with InsertionPoint(last):
            coreai.output(values)
        last.erase()
        taken, given = [argument.type for argument in block.arguments], [value.type for value in values]
        graph.attributes["function_type"] = TypeAttr.get(FunctionType.get(taken, given))
        names = [DictAttr.get({"coreai.name": StringAttr.get(name)}) for name in found]
        graph.attributes["res_attrs"] = ArrayAttr.get(names)
    return {name: step for name, (step, _) in found.items()}
