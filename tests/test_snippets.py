"""`edgeattn snippet`: each program is run, or compiled, on a picture, and answers as edgeattn's own session does."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import snippet_cpp
import snippet_kotlin
import snippet_page
from conftest import Answer
from phone_page import chromium, playwright
from playwright.sync_api import Browser, Page
from snippet_runs import LABELS, MODEL, expected, picture, rgb, run_python, same, session_outputs, told, written

import edgeattn as package
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import BadInputError
from edgeattn.snippets import literals
from edgeattn.snippets.languages import LANGUAGES
from edgeattn.snippets.write import snippet

# Fixtures of another file.
__all__ = ["chromium", "playwright"]

Command = Callable[..., Answer]
Made = dict[str, Path]
# Values and bytes, in both layouts; float16 and int8 at the edges; values and the best five as the answer; a picture
# that is grey to the model, and is not cut.
FILES = [
    ("values", "make-fp32.onnx"),
    ("values", "make-fp32.tflite"),
    ("pictures", "make-fp32.onnx"),
    ("pictures", "make-fp32.tflite"),
    ("own", "make-fp16.onnx"),
    ("own", "make-int8.tflite"),
    ("grey", "make-fp32.onnx"),
]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Bundles of one small classifier, by what they are for; and a picture of the size that it takes."""
    from edgeattn.export import pipeline, source

    folder = tmp_path_factory.mktemp("snippets")
    (folder / "model.py").write_text(MODEL)
    both = ("onnx", "tflite")
    options = {
        "values": pipeline.Options(formats=both, labels=LABELS),
        "pictures": pipeline.Options(formats=(*both, "executorch"), labels=LABELS, picture=True, answer="top5"),
        "own": pipeline.Options(formats=both, precisions=("fp16", "int8"), labels=LABELS, edge_type="own"),
    }
    for name, each in options.items():
        pipeline.export(source.load(f"{folder / 'model.py'}:make"), each, folder / name)
    own = json.loads((folder / "values/manifest.json").read_text())
    others = {
        "grey": {"preprocessing": {**own["preprocessing"], "channels": "grey", "crop": "none"}},
        "zeros": {"preprocessing": {}, "labels": []},
    }
    for name, changed in others.items():
        shutil.copytree(folder / "values", folder / name)
        (folder / name / "manifest.json").write_text(json.dumps({**own, **changed}))
    picture(folder / "picture.png")
    (folder / "picture.rgb").write_bytes(rgb(folder / "picture.png"))
    return {name: folder / name for name in (*options, *others, "picture.png", "picture.rgb")}


@pytest.fixture(scope="module")
def page(made: Made, phone_runtimes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that a page is served from."""
    folder = tmp_path_factory.mktemp("page")
    snippet_page.unpack(phone_runtimes, folder)
    shutil.copy(made["picture.png"], folder)
    return folder


@pytest.mark.parametrize(("bundle", "artifact"), [*FILES, ("pictures", "make-fp32.pte")])
def test_python_answers_as_the_session(bundle: str, artifact: str, made: Made) -> None:
    program = written(made[bundle], "python", artifact)
    answer = told(run_python(made[bundle], program.code, made["picture.png"]))
    assert same(answer, expected(made[bundle], artifact, made["picture.png"]))
    assert program.compiled == "run by edgeattn's tests"


@pytest.mark.parametrize("edge", [None, 32])
def test_python_resizes_and_crops_as_the_preprocessing_says(edge: int | None, made: Made, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(made["values"], tmp_path / "b"))
    document = json.loads((bundle / "manifest.json").read_text())
    document["preprocessing"] |= {"resize_shortest_edge": edge, "interpolation": "bicubic", "crop_rounding": "down"}
    (bundle / "manifest.json").write_text(json.dumps(document))
    large = picture(tmp_path / "large.png", (301, 250))
    answer = told(run_python(bundle, written(bundle, "python", "make-fp32.onnx").code, large))
    assert same(answer, expected(bundle, "make-fp32.onnx", large))
    assert not same(answer, expected(made["values"], "make-fp32.onnx", large))


@pytest.mark.parametrize(("bundle", "artifact"), FILES)
def test_cpp_answers_as_the_session(bundle: str, artifact: str, made: Made, tmp_path: Path) -> None:
    """On the emulated core, with the libraries of the native runners."""
    code = written(made[bundle], "cpp", artifact).code
    printed = snippet_cpp.run(snippet_cpp.compiled(code, tmp_path / "app"), made[bundle], made["picture.rgb"])
    assert same(told(printed), expected(made[bundle], artifact, made["picture.png"]))


@pytest.mark.parametrize(("bundle", "artifact"), FILES[:-2] + FILES[-1:])
def test_javascript_answers_as_the_session(
    bundle: str, artifact: str, made: Made, page: Path, chromium: Browser
) -> None:
    shutil.copy(made[bundle] / artifact, page)
    printed = snippet_page.run(chromium, page, written(made[bundle], "javascript", artifact).code)
    assert same(told(printed), expected(made[bundle], artifact, made["picture.png"]))


@pytest.fixture(scope="module")
def classes(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kotlin's programs, compiled at once."""
    programs = {bundle: written(made[bundle], "kotlin", artifact).code for bundle, artifact in _KOTLIN}
    programs["gpu"] = snippet(bundles.load(made["values"]), "kotlin", delegate="gpu", threads=4).code
    programs["zeros"] = snippet(bundles.load(made["zeros"]), "kotlin").code
    return snippet_kotlin.compiled(programs, tmp_path_factory.mktemp("kotlin"))


_KOTLIN = [(bundle, artifact) for bundle, artifact in FILES if artifact.endswith(".tflite")]


@pytest.mark.parametrize(("bundle", "artifact"), _KOTLIN)
def test_kotlin_feeds_and_reads_as_the_session(bundle: str, artifact: str, made: Made, classes: Path) -> None:
    """On stand-ins: the bytes of the input are those that the session is fed, and its outputs become the answer."""
    fed, outputs = session_outputs(made[bundle], artifact, made["picture.png"])
    printed = snippet_kotlin.run(classes, bundle, made[bundle], made["picture.rgb"], outputs)
    found = np.frombuffer((made[bundle] / "input-image").read_bytes(), fed.dtype)
    np.testing.assert_allclose(found, fed.ravel(), rtol=1e-5, atol=1e-6 if fed.dtype == np.float32 else 1)
    assert np.mean(found != fed.ravel()) < 0.01 or fed.dtype == np.float32
    assert same(told(printed), expected(made[bundle], artifact, made["picture.png"]))


# What swaps the channels in a program, or mixes up its axes.
BROKEN = {
    "python": ("x = x[:, :, ::-1]", "x = x[:, :, ::1]"),
    "cpp": ("rgb[i][2 - c]", "rgb[i][c]"),
    "javascript": ("x[480 * c + i]", "x[3 * i + c]"),
}


@pytest.mark.parametrize("language", BROKEN)
def test_a_broken_program_is_noticed(language: str, made: Made, page: Path, chromium: Browser, tmp_path: Path) -> None:
    code = written(made["values"], language, "make-fp32.onnx").code
    assert code.count(BROKEN[language][0]) == 1
    code = code.replace(*BROKEN[language])
    if language == "python":
        printed = run_python(made["values"], code, made["picture.png"])
    elif language == "cpp":
        printed = snippet_cpp.run(snippet_cpp.compiled(code, tmp_path / "app"), made["values"], made["picture.rgb"])
    else:
        shutil.copy(made["values"] / "make-fp32.onnx", page)
        printed = snippet_page.run(chromium, page, code)
    assert not same(told(printed), expected(made["values"], "make-fp32.onnx", made["picture.png"]))


@pytest.mark.parametrize("artifact", ["make-fp32.onnx", "make-fp32.tflite"])
def test_without_a_picture_zeros_are_fed(
    artifact: str, made: Made, page: Path, chromium: Browser, tmp_path: Path
) -> None:
    bundle = made["zeros"]
    shutil.copy(bundle / artifact, page)
    compiled = snippet_cpp.compiled(written(bundle, "cpp", artifact).code, tmp_path / "app")
    printed = (
        run_python(bundle, written(bundle, "python", artifact).code),
        snippet_cpp.run(compiled, bundle),
        snippet_page.run(chromium, page, written(bundle, "javascript", artifact).code),
    )
    _, outputs = session_outputs(bundle, artifact, None)
    for line in printed:
        least, most = map(float, line.split()[-2:])
        assert line.startswith("y ")
        np.testing.assert_allclose([least, most], [outputs["y"].min(), outputs["y"].max()], rtol=1e-4)


@pytest.fixture(scope="module")
def everything(made: Made) -> list[tuple[str, str]]:
    """The language and code of every way, delegate and kind of bundle; formats that are not made here too."""
    found = []
    for name in ("values", "pictures", "own", "grey", "zeros"):
        bundle = bundles.load(made[name])
        for first in bundle.manifest.artifacts:
            for language, spoken in LANGUAGES.items():
                for format_, way in spoken.ways.items():
                    file = replace(first.file, path=f"a.{format_}")
                    other = replace(bundle.manifest, artifacts=(replace(first, format=format_, file=file),))
                    if way.edges and any(edge.dtype not in way.edges for edge in (*first.inputs, *first.outputs)):
                        continue
                    for delegate in way.delegates if name == "values" else [None]:
                        made_of_it = snippet(replace(bundle, manifest=other), language, delegate=delegate)
                        found.append((language, made_of_it.code))
    return found


def test_every_program_is_whole(made: Made, everything: list[tuple[str, str]]) -> None:
    """No gap of a template is left, quotes and brackets are in pairs, and no line names this machine."""
    pairs = {")": "(", "]": "[", "}": "{"}
    for language, code in everything:
        bare = re.sub(r'"(?:\\.|[^"\\\n])*"', '""', code)
        bare = re.sub(rf"(?m){LANGUAGES[language].comment}.*$", "", bare)
        assert bare.count('"') % 2 == 0, code
        opened: list[str] = []
        for character in bare:
            if character in pairs.values():
                opened.append(character)
            elif character in pairs:
                assert opened, code
                assert opened.pop() == pairs[character], code
        assert not opened, code
        assert not re.search(r"\{\{|\{%|Undefined", code), code
        assert language == "python" or "None" not in code, code
        assert str(made["values"].parent) not in code
        assert code.splitlines()[0].startswith(LANGUAGES[language].comment)
        if language == "python":
            compile(code, "snippet", "exec")
    assert len(everything) > 100


def test_what_is_not_compiled_says_so_at_its_head(made: Made, everything: list[tuple[str, str]]) -> None:
    found = {code.splitlines()[0] for language, code in everything if language == "swift"}
    assert all(line.endswith("not compiled by edgeattn's tests.") for line in found)
    gpu = snippet(bundles.load(made["values"]), "kotlin", delegate="gpu")
    assert gpu.compiled == "not run by edgeattn's tests with this delegate"
    assert gpu.compiled in gpu.code.splitlines()[0]


@pytest.fixture(scope="module")
def chromium_page(chromium: Browser) -> Iterator[Page]:
    with chromium.new_context() as context:
        yield context.new_page()


@pytest.mark.parametrize("label", ['"); evil(); ("', "a\\", "line\nbreak", "\u202e", "\U0001f45f$x${y}", "??/"])
def test_literals_end_no_string(label: str, chromium_page: Page) -> None:
    """Nothing in them begins a line, ends the string or begins a template."""
    for language in LANGUAGES.values():
        written = language.literal(label)
        assert re.fullmatch(r'"(?:\\.|[^"\\\n])*"', written)
        assert written.isprintable()
    assert eval(literals.python(label)) == label
    assert chromium_page.evaluate(literals.javascript(label)) == label
    assert not re.search(r"(?<!\\)\$", literals.kotlin(label))
    assert "??" not in literals.cpp(label)


def test_the_command(edgeattn: Command, made: Made, tmp_path: Path) -> None:
    answer = edgeattn("snippet", made["values"], "--language", "python", "--artifact", "make-fp32.onnx")
    assert answer.code == 0
    whole = written(made["values"], "python", "make-fp32.onnx")
    assert answer.out.rstrip() == whole.code.rstrip()
    out = tmp_path / "app.py"
    answer = edgeattn("snippet", made["values"], "--language", "python", "--artifact", "make-fp32.onnx", "--out", out,
                      "--json")  # fmt: skip
    assert out.read_text(encoding="utf-8") == whole.code == answer.document["code"]
    assert {key: answer.document[key] for key in ("artifact", "language", "compiled")} == {
        "artifact": "make-fp32.onnx", "language": "python", "compiled": "run by edgeattn's tests"
    }  # fmt: skip
    threads = edgeattn("snippet", made["values"], "--language", "python", "--threads", 3).out
    assert "num_threads=3" in threads
    assert package.Bundle.open(made["values"]).snippet("python", "make-fp32.onnx") == whole.code


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("swift",), "swift runs no artifact of .*, which has onnx, tflite: kotlin runs tflite; swift runs coreml"),
        (
            ("kotlin", "--artifact", "make-fp32.onnx"),
            r"kotlin does not run make-fp32.onnx \(onnx\): kotlin runs tflite",
        ),
        (("rust",), "no snippet in 'rust'; choose from kotlin, swift, javascript, cpp, python"),
        (("python", "--artifact", "x.onnx"), "has no artifact 'x.onnx'; it has make-fp32.onnx, make-fp32.tflite"),
        (("kotlin", "--delegate", "nnapi"), "no delegate 'nnapi' in LiteRT on Android; choose from xnnpack, gpu"),
        (("cpp", "--threads", "0"), "threads must be at least 1, not 0"),
    ],
)
def test_refusals_are_one_sentence(options: tuple[str, ...], said: str, edgeattn: Command, made: Made) -> None:
    answer = edgeattn("snippet", made["values"], "--language", *options)
    assert answer.code == 2
    assert answer.out == ""
    assert re.search(said, answer.err)
    assert len(answer.err.splitlines()) == 1


def test_a_classifier_of_core_ml_is_read_by_its_labels(tmp_path: Path) -> None:
    """By the output that the package has; of labels that are alike it is none."""
    from edgeattn.export import pipeline, source
    from edgeattn.formats.mil.package import read_spec

    (tmp_path / "model.py").write_text(MODEL)
    for labels in (LABELS, ("same",) * len(LABELS)):
        options = pipeline.Options(formats=("coreml",), labels=labels, picture=True, answer="probabilities", force=True)
        made = pipeline.export(source.load(f"{tmp_path / 'model.py'}:make"), options, tmp_path / "b").bundle
        outputs = {output.name for output in read_spec(tmp_path / "b/make-fp32.mlpackage").description.output}
        for code in (snippet(made, "swift").code, snippet(made, "python").code):
            read = {name for name in ("classLabel_probs", "y") if f'"{name}"' in code}
            assert len(read) == 1
            assert read <= outputs


def test_a_runtime_that_lacks_a_type_is_not_chosen(made: Made) -> None:
    with pytest.raises(BadInputError, match=r"LiteRT\.js takes no int8 at the edges of make-int8\.tflite"):
        written(made["own"], "javascript", "make-int8.tflite")
    assert snippet(bundles.load(made["own"]), "javascript").artifact.endswith(".onnx")
