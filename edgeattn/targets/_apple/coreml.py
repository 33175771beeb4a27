"""What the Mac and the iPhone share: the compute plan, and coremltools' estimate by operator."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeattn.bundle.records import Operator
from edgeattn.bundle.tensors import Arrays
from edgeattn.formats import FORMATS
from edgeattn.runtimes._compute_plan import steps, unit
from edgeattn.system.vendor_errors import first_line

CAVEAT = "written against coremltools 9.0, not run on hardware"
SUFFIX = FORMATS.get("coreml").suffix
THREADS = "Core ML chooses its own"
ESTIMATE = "times by operator are coremltools' estimate, the plan's share of the cost times a run's time: not measured"
ESTIMATED_RUNS = 10


def error_text(error: BaseException) -> str:
    """The first line of a vendor's error; coremltools passes on the output of Xcode's tools as bytes."""
    message = getattr(error, "message", None)
    text = message.decode(errors="replace") if isinstance(message, bytes) else message
    return first_line(Exception(text) if text else error)


def summary(plan: Any) -> str:
    """The operators by compute unit, with their share of the estimated cost, of a ``compute_plan.MLComputePlan``.

    Raises:
        ValueError: it is not the plan of an ML program.
    """
    ops: Counter[str] = Counter()
    cost: Counter[str] = Counter()
    for operation, usage in steps(plan):
        if name := unit(usage):
            estimated = plan.get_estimated_cost_for_mlprogram_operation(operation)
            ops[name] += 1
            cost[name] += estimated.weight if estimated else 0
    if not ops:
        raise ValueError("it names no operator")
    parts = (f"{name} {ops[name]} ops ({cost[name]:.0%} of the estimated cost)" for name in sorted(ops))
    return f"compute plan: {', '.join(parts)}"


async def operators(model: Any, device: Any, inputs: Arrays) -> tuple[Operator, ...]:
    """Time by operator as ``perf_utils.MLModelBenchmarker`` estimates it, from separate runs, the longest first.

    Args:
        model: an ``MLModel``, which need not be loaded.
        device: a prepared ``remote_device.Device``, or None for this machine.
    """
    from coremltools.models.ml_program.experimental.perf_utils import MLModelBenchmarker

    timings = await MLModelBenchmarker(model, device).benchmark_operation_execution(
        inputs, iterations=ESTIMATED_RUNS, warmup=True
    )
    return tuple(
        Operator(
            name=info.spec.outputs[0].name,
            kind=info.spec.type,
            layer="",
            median_ns=round(info.measurement.statistics.median * 1e6),
            unit=unit(info.compute_device_usage),
        )
        for info in timings
        if info.measurement.statistics is not None and info.spec.outputs
    )


def in_package_order(operators: Sequence[Operator], package: Path, format_name: str = "coreml") -> tuple[Operator, ...]:
    """``operators`` in the order of the package, the layout ops marked.

    Raises:
        ArtifactError: the package cannot be read.
    """
    if not operators:
        return ()
    ops = {
        op.name: (position, op.category == "layout")
        for position, op in enumerate(FORMATS.get(format_name).read(package).ops)
    }
    known = [replace(operator, layout=ops[operator.name][1]) for operator in operators if operator.name in ops]
    return tuple(sorted(known, key=lambda operator: ops[operator.name][0]))
