"""Core AI on a Mac: its compute plan, and its profiler's times by operator, both by coreai-torch's own tools."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeattn.bundle.records import Operator
from edgeattn.bundle.tensors import Arrays
from edgeattn.formats import FORMATS
from edgeattn.formats.aimodel import asset
from edgeattn.formats.aimodel.program import Step
from edgeattn.targets._apple import coreml

CAVEAT = "written against coreai-core 1.0.0b3, not run on hardware"
SUFFIX = FORMATS.get("coreai").suffix
THREADS = "Core AI chooses its own"
PROFILED_RUNS = 10


async def operators(path: Path, options: Callable[[], Any], inputs: Arrays) -> tuple[tuple[Operator, ...], str]:
    """Time by operator, or by group of operators that is one dispatch, from separate runs, the longest first; and the
    compute plan, in words.

    Args:
        path: the asset.
        options: makes Core AI's options, anew for each tool.
        inputs: of the runs that are profiled.
    """
    from coreai_torch.debugging.benchmarker import benchmark_coreai_program
    from coreai_torch.debugging.compute_plan import ComputePlan
    from coreai_torch.debugging.debug_info import get_operation_id

    program = asset.load(path)
    steps = {get_operation_id(step.op): step for step in program.steps() if step.kind != "constant"}
    plan = await ComputePlan.from_program(program.vendors, options())
    result = await benchmark_coreai_program(
        program.vendors, inputs, num_runs=PROFILED_RUNS, specialization_options=options()
    )
    found = []
    for timing in result.get_operation_summary():
        group = [steps[number] for number in timing.op_ids if number in steps]
        if group and timing.measurement.statistics is not None:
            found.append(
                Operator(
                    name=group[-1].name,  # the one whose value the dispatch gives
                    kind=" + ".join(step.kind for step in group),
                    layer="",
                    median_ns=round(timing.measurement.statistics.median * 1e6),
                    unit=" and ".join(sorted({unit for number in timing.op_ids for unit in _units(plan, number)})),
                )
            )
    return tuple(found), summary(plan, steps)


def _units(plan: Any, number: int) -> list[str]:
    """The compute units that the plan names for an operator."""
    names = (device.name for device in plan.devices_for_id(number))
    return sorted(name.replace("NEURAL_ENGINE", "Neural Engine") for name in names if name != "UNKNOWN")


def summary(plan: Any, steps: Mapping[int | None, Step]) -> str:
    """The operators by compute unit of a ``ComputePlan``."""
    counts = Counter(" and ".join(_units(plan, number)) or "not said" for number in steps if number is not None)
    return "compute plan: " + ", ".join(f"{unit} {count} ops" for unit, count in sorted(counts.items()))


def in_package_order(operators: Sequence[Operator], package: Path) -> tuple[Operator, ...]:
    """``operators`` in the order of the program, the layout ops marked.

    Raises:
        ArtifactError: the asset cannot be read.
    """
    return coreml.in_package_order(operators, package, "coreai")
