"""Core AI: a bundle in every precision, by Apple's own quantiser; and what a Mac would do with it."""

import asyncio
import platform
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import create_autospec

import numpy as np
import pytest
import torch
from test_coreai import converted, ran

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.records import Operator
from edgeattn.errors import ConversionError
from edgeattn.export import pipeline, source
from edgeattn.export.quantize import QUANTIZERS
from edgeattn.formats import FORMATS
from edgeattn.formats.aimodel import asset
from edgeattn.formats.aimodel.program import constant
from edgeattn.inspection import inspect as inspection
from edgeattn.parity import layers
from edgeattn.parity.mutation import EDITORS
from edgeattn.precision import INT8_DYNAMIC, PALETTE4, PALETTE6
from edgeattn.runtimes import RUNTIMES, coreai

Command = Callable[..., Any]

FORMAT, RUNTIME = FORMATS.get("coreai"), RUNTIMES.get("coreai")
LAYER = ["embed_dim=64", "pixels=4", "patches=16"]
LOWER = ("fp16", "int8", "int8-dynamic", "palette6")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> bundles.Bundle:
    """The layer in Core AI, in every precision that keeps enough of it; tests only read it."""
    out = tmp_path_factory.mktemp("coreai") / "b"
    options = pipeline.Options(formats=("coreai",), precisions=("fp32", *LOWER))
    result = pipeline.export(source.load("attention", LAYER), options, out)
    assert result.report.passed, [row for row in result.report.rows if not row.passed]
    return result.bundle


def file(made: bundles.Bundle, precision: str) -> Path:
    return made.path(next(a for a in made.manifest.artifacts if a.precision == precision).file)


def test_it_is_the_same_model_in_every_precision_that_it_names(made: bundles.Bundle) -> None:
    assert [a.precision for a in made.manifest.artifacts] == ["fp32", *LOWER]
    sizes = [sum(part.stat().st_size for part in file(made, p).iterdir()) for p in ("fp32", "fp16", "int8-dynamic")]
    assert sizes == sorted(sizes, reverse=True)
    stored = {p: FORMAT.read(file(made, p)).details["storage_types"] for p in ("fp32", *LOWER)}
    weights = 3 * 64 * 64
    assert stored["fp32"]["Float32"] > weights
    assert stored["fp16"]["Float16"] > weights
    assert stored["int8"]["Int8"] > weights  # on few rows it is the weights alone
    assert stored["int8-dynamic"]["Int8"] > weights
    assert stored["palette6"]["UInt6"] == weights
    kinds = inspection.count(FORMAT.read(file(made, "int8")).ops)
    assert kinds["quantize"] == kinds["dequantize"] >= 2
    details = {a.precision: a.details for a in made.manifest.artifacts}
    assert details["int8"].static_ops == 2
    assert details["fp16"].kept_in_fp32 is not None
    assert "softmax" in "".join(details["fp16"].kept_in_fp32)


def test_no_layout_op_in_any_precision_and_the_reference_has_some(made: bundles.Bundle, tmp_path: Path) -> None:
    for precision in ("fp32", *LOWER):
        found = inspection.inspect(file(made, precision))
        assert not found.layout_ops
        assert not found.copy_ops
        assert found.macs == inspection.inspect(file(made, "fp32")).macs == 64 * 64 * (2 * 64 + 4) + 64 * 64
    model = source.load("mobilevitv2", ["width=0.5"]).module
    path = converted(model, {"x": torch.randn(1, 3, 64, 64)}, tmp_path / "m.aimodel")
    plain = inspection.inspect(path)
    assert plain.layout_ops["transpose"] >= 4
    assert plain.copy_ops["split"] == 9


def test_layers_pass_and_a_wrong_one_is_named(made: bundles.Bundle, tmp_path: Path) -> None:
    bundle = bundles.load(Path(shutil.copytree(made.folder, tmp_path / "b")))
    assert layers.compare(bundle).passed
    artifact = bundle.manifest.artifacts[0]
    path = bundle.path(artifact.file)
    editor = EDITORS.get("coreai")
    weight = next(w for w in editor.weights(path) if w.name.startswith("conv2d"))
    editor.write(path, damaged := tmp_path / "damaged.aimodel", {weight.name: weight.value * np.float32(1.01)})
    shutil.rmtree(path)
    shutil.copytree(damaged, path)
    described = replace(artifact, file=bundles.describe(bundle.folder, path))
    wrong = bundles.Bundle(bundle.folder, replace(bundle.manifest, artifacts=(described,)))
    (depth, *_) = layers.compare(wrong).depths
    assert not depth.passed
    assert depth.first is not None
    assert depth.first.artifact_op in ("conv2d", "broadcasting_add")


def test_edges_of_its_own_type(tmp_path: Path) -> None:
    options = pipeline.Options(formats=("coreai",), precisions=("fp16",), edge_type="own")
    result = pipeline.export(source.load("attention", LAYER), options, tmp_path / "b")
    assert result.report.passed
    (artifact,) = result.bundle.manifest.artifacts
    assert [t.dtype for t in (*artifact.inputs, *artifact.outputs)] == ["float16", "float16"]


def test_an_operator_that_is_kept_has_float_weights(made: bundles.Bundle, tmp_path: Path) -> None:
    base = file(made, "fp32")
    named = QUANTIZERS.get("coreai").candidates(base)
    assert [kind for kind, _ in named] == ["conv2d", "conv2d"]  # the third is on few rows
    kept = named[1][1]
    options = pipeline.Options(formats=("coreai",), precisions=("int8", "int8-dynamic"), keep=(kept,))
    result = pipeline.export(source.load("attention", LAYER), options, tmp_path / "b")
    assert result.report.passed
    for artifact in result.bundle.manifest.artifacts:
        stored = FORMAT.read(result.bundle.path(artifact.file)).details["storage_types"]
        assert stored["Int8"] < FORMAT.read(file(made, artifact.precision)).details["storage_types"]["Int8"] - 60 * 64
        assert artifact.details.kept_by_name == (kept,)


@pytest.mark.parametrize("precision", [INT8_DYNAMIC, PALETTE6, PALETTE4])
def test_weights_that_are_left_as_they_were_are_an_error(
    precision: Any, made: bundles.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """coreai-opt only logs that it failed at one, as where there is no compiler for its k-means."""
    from coreai_opt.coreai_utils.passes import weight_palettization, weight_quantization

    def fails(*_: Any, **__: Any) -> Any:
        raise OSError("there is no g++")

    monkeypatch.setattr(weight_palettization, "_blockwise_compress", fails)
    monkeypatch.setattr(weight_quantization, "_compute_qparams_by_dtype", fails)
    options = pipeline.Options(formats=("coreai",), precisions=(precision.name,))
    with pytest.raises(ConversionError, match=r"it left 3 of 3 weights as they were"):
        pipeline.export(source.load("attention", LAYER), options, tmp_path / "b")
    assert not list(tmp_path.iterdir())


def test_a_table_holds_few_values(made: bundles.Bundle) -> None:
    program = asset.load(file(made, "palette6"))
    tables = [step for step in program.steps() if step.kind == "lut_to_dense"]
    assert len(tables) == 3
    for step in tables:
        assert constant(step.op.operands[1].owner).size == 2**6


def test_an_interpreter_is_never_timed(made: bundles.Bundle, edgeattn: Command) -> None:
    answer = edgeattn("profile", made.folder, "--runs", "2")
    assert answer.code == 3
    assert "coreai" in answer.err


def test_compute_units_are_a_macs_with_macos_27() -> None:
    """Not run on hardware: the names are held to the interface that Apple's package declares."""
    assert coreai.units("Linux", "") == coreai.units("Darwin", "26.4") == coreai.INTERPRETER
    assert coreai.units("Darwin", "27.0.1") == coreai.UNITS
    runtime_folder = Path(find_spec("coreai.runtime").origin).parent
    kinds = (runtime_folder / "__init__.pyi").read_text()
    options = (runtime_folder / "_specialization_options.py").read_text()
    for unit in coreai.UNITS.values():
        where = options if unit in ("cpu_only", "default") else kinds.partition("class ComputeUnitKind")[2]
        assert re.search(rf"def {unit}\(cls\)", where), unit
    if platform.system() == "Linux":
        with pytest.raises(RuntimeError, match="only available on macOS"):
            coreai.options("cpu_only")


class MacOptions:
    """In the place of Core AI's own options, which off a Mac cannot be made."""


def test_a_macs_worker_runs_it_and_names_units_and_times(
    made: bundles.Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not run on hardware: the interpreter stands for the Mac's Core AI; plan and profile are of Apple's own classes,
    with values that only a Mac gives."""
    from coreai_torch.debugging import benchmarker, compute_plan
    from coreai_torch.debugging.debug_info import get_operation_id

    from edgeattn.targets._apple import worker as mac_worker

    asked: list[Any] = []

    async def plan(program: Any, options: Any) -> Any:
        asked.append(options)
        found = create_autospec(compute_plan.ComputePlan, instance=True)
        devices = compute_plan.ComputeDevice
        found.devices_for_id.side_effect = lambda i: {devices.GPU} if i % 2 else {devices.NEURAL_ENGINE}
        return found

    async def profile(program: Any, inputs: Any, *, num_runs: int, specialization_options: Any) -> Any:
        asked.append(specialization_options)
        body = next(op for op in program._module._mlir_module.body.operations if op.name == "coreai.graph")
        ops = {get_operation_id(op): op for op in body.regions[0].blocks[0].operations if "conv2d" in op.name}
        measured = benchmarker.Measurement.from_samples([0.25] * num_runs)
        timings = [benchmarker.OperationTiming([i], [op], measured) for i, op in ops.items()]
        return benchmarker.BenchmarkResult(timings)

    monkeypatch.setattr(compute_plan.ComputePlan, "from_program", plan)
    monkeypatch.setattr(benchmarker, "benchmark_coreai_program", profile)
    monkeypatch.setattr(coreai, "options", lambda unit: MacOptions())
    monkeypatch.setattr(RUNTIME, "variants", dict.fromkeys(coreai.UNITS, ""))  # opened by the interpreter
    path = Path(shutil.copytree(file(made, "fp32"), tmp_path / "job.aimodel"))
    (tmp_path / mac_worker.RUNTIME_FILE).write_text("coreai, prefers GPU")
    with mac_worker.OPEN:
        used(mac_worker.CoreAi(str(path), 1), path, asked)


def used(runner: Any, path: Path, asked: list[Any]) -> None:
    """As the worker uses it."""
    from edgeattn.targets._apple import coreai as apple

    x = np.random.default_rng(0).standard_normal((1, 64, 4, 16)).astype(np.float32)
    runner.feed({"x": x})
    runner.run()
    assert np.array_equal(runner.results()[0], ran(path, x=x)["y"])
    rows, note = runner.operators("")
    assert [type(options) for options in asked] == [MacOptions, MacOptions]
    steps = {step.name: step.kind for step in asset.load(path).steps()}
    assert len(rows) == 3
    assert all(steps[name] == kind == "conv2d" and ns == 250_000 for name, kind, ns, *_ in rows)
    assert {row[-1] for row in rows} <= {"GPU", "Neural Engine"}
    assert re.fullmatch(r"compute plan: GPU \d+ ops, Neural Engine \d+ ops", note)
    named = [Operator(name, kind, "", ns, unit=unit) for name, kind, ns, _, unit in reversed(rows)]
    ordered = [operator.name for operator in apple.in_package_order(named, path)]
    assert ordered == [name for name in steps if name in ordered]


def test_a_mac_without_a_plan_still_measures(made: bundles.Bundle, tmp_path: Path) -> None:
    """The real tools, which refuse off a Mac."""
    from edgeattn.targets._apple import coreai as apple

    with pytest.raises(RuntimeError, match="only available on macOS"):
        asyncio.run(apple.operators(file(made, "fp32"), lambda: coreai.options("cpu_only"), {}))
