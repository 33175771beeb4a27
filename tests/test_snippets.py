"""`edgeattn snippet`: each program is run, or compiled, on a picture, and answers as edgeattn's own session does."""

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Answer
from snippet_cpp import compiled, run
from snippet_runs import LABELS, MODEL, expected, picture, rgb, run_python, same, told, written

Command = Callable[..., Answer]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Three bundles of one small classifier: one that takes normalised values, one that takes pictures, and one whose
    files have edges of their own types."""
    from edgeattn.export import pipeline, source

    folder = tmp_path_factory.mktemp("snippets")
    (folder / "model.py").write_text(MODEL)
    options = {
        "values": pipeline.Options(formats=("onnx", "tflite"), labels=LABELS),
        "pictures": pipeline.Options(
            formats=("onnx", "tflite", "executorch"), labels=LABELS, picture=True, answer="top5"
        ),
        "own": pipeline.Options(
            formats=("onnx", "tflite"), precisions=("fp16", "int8"), labels=LABELS, edge_type="own"
        ),
    }
    for name, each in options.items():
        pipeline.export(source.load(f"{folder / 'model.py'}:make"), each, folder / name)
    picture(folder / "picture.png")
    return {name: folder / name for name in (*options, "picture.png")}


# Values and bytes, in both layouts; float16 and int8 at the edges; top5 and values to answer.
FILES = [
    ("values", "make-fp32.onnx"),
    ("values", "make-fp32.tflite"),
    ("pictures", "make-fp32.onnx"),
    ("pictures", "make-fp32.tflite"),
    ("own", "make-fp16.onnx"),
    ("own", "make-int8.tflite"),
]


@pytest.mark.parametrize(("bundle", "artifact"), [*FILES, ("pictures", "make-fp32.pte")])
def test_python_answers_as_the_session(bundle: str, artifact: str, made: dict[str, Path]) -> None:
    program = written(made[bundle], "python", artifact)
    answer = told(run_python(made[bundle], program.code, made["picture.png"]))
    assert same(answer, expected(made[bundle], artifact, made["picture.png"]))
    assert program.compiled == "run by edgeattn's tests"


@pytest.mark.parametrize(("bundle", "artifact"), FILES)
def test_cpp_answers_as_the_session(bundle: str, artifact: str, made: dict[str, Path], tmp_path: Path) -> None:
    """Under emulation, by the libraries of the native runners."""
    program = written(made[bundle], "cpp", artifact)
    (tmp_path / "picture.rgb").write_bytes(rgb(made["picture.png"]))
    runtime = "onnxruntime" if artifact.endswith(".onnx") else "litert"
    command = compiled(program.code, runtime, tmp_path / "app")
    answer = told(run(command, made[bundle], tmp_path / "picture.rgb"))
    assert same(answer, expected(made[bundle], artifact, made["picture.png"]))
