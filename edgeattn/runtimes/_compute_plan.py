"""Core ML's compute plan: the compute unit that it means to run each operator on. Not run on hardware."""

from collections.abc import Iterator
from typing import Any

from edgeattn.runtimes import Left, Share


def steps(plan: Any) -> Iterator[tuple[Any, Any]]:
    """Each operation of a ``compute_plan.MLComputePlan``, with its device usage, None for one that does not run.

    Raises:
        ValueError: it is not the plan of an ML program.
    """
    program = plan.model_structure.program
    if program is None:
        raise ValueError("the model is no ML program")
    for function in program.functions.values():
        for operation in function.block.operations:
            yield operation, plan.get_compute_device_usage_for_mlprogram_operation(operation)


def unit(usage: Any) -> str:
    """The compute unit that Core ML plans for one operator; "" for one that does not run, such as a constant."""
    return "" if usage is None else _name(usage.preferred_compute_device)


def _name(device: Any) -> str:
    from coremltools.models import compute_device

    names = {
        compute_device.MLCPUComputeDevice: "CPU",
        compute_device.MLGPUComputeDevice: "GPU",
        compute_device.MLNeuralEngineComputeDevice: "Neural Engine",
    }
    return next((name for kind, name in names.items() if isinstance(device, kind)), "other")


def share(plan: Any, label: str, *, on_cpu: bool) -> Share:
    """The operators that the plan has on another unit than the CPU, and those that it leaves to the CPU, with the units
    that could have run them; ``on_cpu``: the CPU is the unit that was asked for.

    Pieces are runs of operators on one unit, in the order of the program.
    """
    taken, pieces, left = 0, 0, []
    before = ""
    for operation, usage in steps(plan):
        name = unit(usage)
        if not name:
            continue
        if name != "CPU" or on_cpu:
            taken += 1
            pieces += name != before
        else:
            others = sorted({_name(device) for device in usage.supported_compute_devices} - {"CPU"})
            reason = (
                f"planned for the CPU, though {' and '.join(others)} could" if others else "only the CPU supports it"
            )
            left.append(Left(operation.operator_name, reason, operation.outputs[0].name if operation.outputs else ""))
        before = name
    return Share(label, taken, tuple(left), pieces, "Core ML's plan before a run, and no trace of one")
