"""ExecuTorch measured: by its Python package on this machine, by the native runner under emulation; they agree."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Answer
from native_runs import Runner, run
from test_targets import HERE, job_of

from edgeattn.bundle import records
from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError, BadInputError, MissingError
from edgeattn.runtimes import executorch
from edgeattn.system.output import quiet
from edgeattn.targets import Job, _host_worker
from edgeattn.targets._runner import job_folder, worker

TYPES = ("float32", "float16", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
ON_HOST: Runner = [sys.executable, "-m", "edgeattn.targets._host_worker"]


@pytest.fixture(scope="module", params=["host", "native_executorch"])
def runner(request: pytest.FixtureRequest) -> Runner:
    return ON_HOST if request.param == "host" else request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def maps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A map and a number, to a map and a number: a convolution in the delegate, ATen's operators around it; both maps
    lie channels-last."""
    import torch
    from torch import Tensor, nn

    class Maps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 3, padding=1)

        def forward(self, image: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
            y = nn.functional.silu(self.conv(image))
            return torch.erf(y), image.sum() * factor

    torch.manual_seed(0)
    image = torch.randn(1, 3, 8, 6).to(memory_format=torch.channels_last)
    return written(tmp_path_factory.mktemp("maps") / "maps.pte", Maps().eval(), (image, torch.tensor(0.5)))


def written(path: Path, module: Any, inputs: tuple[Any, ...], names: dict[str, list[str]] | None = None) -> Path:
    import torch

    from edgeattn.formats.executorch import compiled

    with quiet():
        path.write_bytes(compiled(torch.export.export(module, inputs), names or {}))
    return path


def inputs_of_maps(seed: int) -> Arrays:
    rng = np.random.default_rng(seed)
    return {
        "input_0": rng.standard_normal((1, 3, 8, 6), np.float32),
        "input_1": np.array(rng.standard_normal(), np.float32),
    }


def test_maps_in_their_own_order(runner: Runner, maps: Path, tmp_path: Path) -> None:
    """In numpy's order outside, in the file's inside; a scalar stays one. The file has no names."""
    first, then = inputs_of_maps(0), inputs_of_maps(1)
    seen = run(runner, tmp_path / "job", Job(maps, first, warmup=1, runs=3, then=(then,)))
    assert (seen.stopped, len(seen.samples_ns), seen.runtime, seen.runtime_version) == ("", 3, "executorch", "1.5.1")
    assert min(seen.load_ns or 0, seen.first_run_ns or 0, seen.peak_memory_bytes or 0) > 0
    for given, found in ((first, seen.first), (first, seen.last), (then, seen.then[0])):
        with executorch.RUNTIME.open(maps) as session:
            expected = session.run(given)
        assert list(found) == ["output_0", "output_1"]
        np.testing.assert_allclose(found["output_0"], expected["output_0"], atol=1e-6)
        assert found["output_1"].shape == ()
        np.testing.assert_allclose(found["output_1"], given["input_0"].sum() * given["input_1"], rtol=1e-4)


def test_every_type_through_one_file(runner: Runner, tmp_path: Path) -> None:
    import torch
    from torch import Tensor, nn

    class Flip(nn.Module):
        def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
            return tuple(x.flip(1) for x in given)

    rng = np.random.default_rng(0)
    inputs = {name: rng.integers(0, 2 if name == "bool" else 100, (2, 3)).astype(name) for name in TYPES}
    outputs = [f"y {name}" for name in TYPES]
    names = {"input_names": list(inputs), "output_names": outputs}
    given = tuple(map(torch.from_numpy, inputs.values()))
    path = written(tmp_path / "types.pte", Flip(), given, names)
    seen = run(runner, tmp_path / "job", Job(path, inputs, warmup=0, runs=1))
    assert list(seen.last) == outputs
    for name, value in inputs.items():
        assert seen.last[f"y {name}"].dtype == name
        np.testing.assert_array_equal(seen.last[f"y {name}"], value[:, ::-1])


def test_the_times_by_operator_are_those_of_both_runners(native_executorch: Runner, maps: Path, tmp_path: Path) -> None:
    """The same operators in the same order, but for the kernel that XNNPACK takes on the processor."""
    job = Job(maps, inputs_of_maps(0), warmup=0, runs=1, operators=True)
    host, core = (run(runner, tmp_path / str(n), job) for n, runner in enumerate((ON_HOST, native_executorch)))
    kinds = [[operator.kind for operator in seen.operators] for seen in (host, core)]
    assert kinds[0] == kinds[1]
    assert {"Convolution (NHWC, F32) IGEMM", "Sigmoid (NC)", "erf.out", "sum.IntList_out"} <= set(kinds[0])
    assert sum(operator.median_ns for operator in core.operators) > 0
    for seen in (host, core):
        assert "runs under ExecuTorch's event tracer, which takes time itself" in seen.operators_note


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda x: {"z": x["input_0"], "input_1": x["input_1"]}, "takes input_0"),
        (lambda x: {**x, "z": x["input_1"]}, "the artifact takes"),
        # As many values, and no word of ExecuTorch's.
        (lambda x: {**x, "input_0": x["input_0"].reshape(1, 3, 6, 8)}, "shape"),
        (lambda x: {**x, "input_0": x["input_0"].astype(np.float64)}, "must be of type <f4|fails on these inputs"),
    ],
)
def test_inputs_that_it_refuses(
    change: Callable[[Arrays], Arrays], said: str, runner: Runner, maps: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadInputError, match=said):
        run(runner, tmp_path / "job", Job(maps, change(inputs_of_maps(0))))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content[: len(content) // 2], "File size is too small"),
        (lambda content: b"rubbish" * 100, "Program identifier"),
        (lambda content: b"", ""),
        (lambda content: content.replace(b"aten::erf", b"aten::erg"), "kernel 'aten::erg.out' not found"),
        (lambda content: content.replace(b"XnnpackBackend", b"XnnpackBackenx"), "XnnpackBackenx is not registered"),
    ],
)
def test_files_that_it_refuses(
    change: Callable[[bytes], bytes], said: str, runner: Runner, maps: Path, tmp_path: Path
) -> None:
    """The native runner has ExecuTorch's own words; Python gets a number of it."""
    (tmp_path / "bad.pte").write_bytes(change(maps.read_bytes()))
    words = f"ExecuTorch refuses the file: {'Failed to load' if runner is ON_HOST else f'.*{said}'}"
    with pytest.raises(ArtifactError, match=words):
        run(runner, tmp_path / "job", Job(tmp_path / "bad.pte", inputs_of_maps(0)))


def test_profile_on_the_host(edgeattn: Callable[..., Answer], made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    answer = edgeattn("profile", made_bundle, "--runtime", "executorch", "--runs", 5, "--threads", 2, "--out", out)
    assert answer.code == 0, answer.err
    (record,) = records.load(out).records
    assert (record.runtime, record.threads, len(record.samples_ns)) == ("executorch", 2, 5)
    assert record.parity
    assert record.parity.passed
    assert any("GEMM" in operator.kind for operator in record.operators)
    # Without torch's import, which takes seconds.
    assert (record.load_ns or 0) < 500_000_000


def test_torch_is_imported_where_a_job_needs_it(made_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    imported: list[str] = []
    monkeypatch.setattr(_host_worker, "import_module", imported.append)
    monkeypatch.setattr(worker, "command", lambda *_: 0)
    for suffix in (".onnx", ".pte"):
        (tmp_path / suffix).mkdir()
        job_folder.write(tmp_path / suffix, job_of(made_bundle, suffix))
        _host_worker.main([str(tmp_path / suffix)])
    assert imported == ["executorch.runtime"]
    # The process that gives the turns needs none.
    _host_worker.main([str(tmp_path / ".onnx"), str(tmp_path / ".pte")])
    assert imported == ["executorch.runtime"]


def test_without_the_package(made_bundle: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(executorch.ExecuTorch, "packages", ("nosuch_package",))
    job_folder.write(tmp_path, job_of(made_bundle, ".pte"))
    assert _host_worker.main([str(tmp_path)]) == 1
    with pytest.raises(MissingError, match=r"pip install 'edgeattn\[executorch\]'"):
        job_folder.read(tmp_path, job_of(made_bundle, ".pte"), origin="host", device=HERE, stopped="")


def test_the_threads_are_those_asked_for(made_bundle: Path, tmp_path: Path) -> None:
    """ExecuTorch would take all cores."""
    from executorch.extension.pybindings import portable_lib

    for threads in (1, 3):
        session = _host_worker.ExecuTorch(str(job_of(made_bundle, ".pte").artifact), threads)
        session.feed(job_of(made_bundle, ".pte").inputs)
        session.run()
        assert portable_lib._threadpool_get_thread_count() == threads


def test_a_board_does_not_run_it(made_bundle: Path, tmp_path: Path) -> None:
    """The worker is sent there as it is."""
    job = replace(job_of(made_bundle, ".pte"), runs=1)
    with pytest.raises(ArtifactError, match=r"the worker runs \.onnx and \.tflite files, not \.pte"):
        run([sys.executable, job_folder.WORKER], tmp_path, job)
