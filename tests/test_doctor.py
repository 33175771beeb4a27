"""`edgeattn doctor` says what works by trying it, and what fails is seen."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edgeattn.cli import doctor
from edgeattn.errors import MissingError
from edgeattn.formats import FORMATS
from edgeattn.runtimes import onnxruntime
from edgeattn.system import plugins
from edgeattn.targets import TARGETS


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of each kind, so that it is fast."""
    kinds = {"format": ("onnx",), "runtime": ("onnxruntime",), "target": ("host",), "setup": ("phone",)}
    monkeypatch.setattr(plugins.Registry, "names", property(lambda self: kinds[self.kind]))


def states(edgeattn: Callable[..., Any], *options: str) -> tuple[int, dict[str, str]]:
    answer = edgeattn("doctor", *options, "--json")
    found = {k: v for kind in ("formats", "runtimes", "targets") for k, v in answer.document[kind].items()}
    assert answer.document["passed"] == (answer.code == 0)
    return answer.code, found


def test_everything_is_tried(edgeattn: Callable[..., Any]) -> None:
    code, found = states(edgeattn)
    assert code == 0
    for name in ("coreai", "coreml", "executorch", "onnx", "tflite", "onnxruntime", "litert", "mil_reference"):
        # The format coreml and Core ML's runtime have one name; off macOS the second says why it is not here.
        assert found[name].startswith(("works: ", "Core ML runs on macOS only"))
    assert found["host"].startswith("works: ran it in onnxruntime, litert")
    assert found["ssh"].startswith(("ready, not tried", "there is no ssh"))


def test_quick_tries_nothing(edgeattn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_tried", None)
    code, found = states(edgeattn, "--quick")
    assert code == 0
    assert found["onnx"] == found["host"] == "ready"


@pytest.mark.usefixtures("few")
def test_a_runtime_with_wrong_answers_is_broken(edgeattn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong:
        def run(self, inputs: Any) -> Any:
            return {"y": 1.01 * inputs["x"]}

    @contextmanager
    def opened(path: Path, variant: str) -> Iterator[Wrong]:
        yield Wrong()

    monkeypatch.setattr(onnxruntime.RUNTIME, "open", opened)
    code, found = states(edgeattn)
    assert code == 1
    assert found["onnxruntime"].startswith("does not work: its output is not the reference's: error is ")
    assert found["onnx"].startswith("works")


@pytest.mark.usefixtures("few")
def test_an_installation_that_crashes_is_told(edgeattn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: Any) -> None:
        raise ImportError("libcrash.so: undefined symbol")

    monkeypatch.setattr(FORMATS.get("onnx"), "convert", crash)
    code, found = states(edgeattn)
    assert code == 1
    said = "does not work: ImportError: libcrash.so: undefined symbol"
    assert found["onnx"] == f"{said}; try: pip install --force-reinstall 'edgeattn[onnx]'"
    # There is nothing that it could run.
    assert found["onnxruntime"] == found["host"] == "ready, not tried"


@pytest.mark.usefixtures("few")
def test_what_is_not_there_is_no_failure(edgeattn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        raise MissingError("no phone is attached: connect one")

    monkeypatch.setattr(TARGETS.get("host"), "addresses", nothing)
    assert states(edgeattn)[1]["host"] == "no phone is attached: connect one"
    monkeypatch.setattr(TARGETS.get("host"), "addresses", lambda: ("A", "B"))
    code, found = states(edgeattn)
    assert code == 0
    assert found["host"].startswith("works: attached: A, B")


@pytest.mark.parametrize(("name", "mend"), [("host", ""), ("emulated_arm", "; try: edgeattn setup emulated-arm")])
def test_a_set_up_is_advised_where_there_is_one(name: str, mend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(trials: object, name: str) -> None:
        raise OSError("no more")

    kinds = {"format": (), "runtime": (), "target": (name,), "setup": ("emulated_arm",)}
    monkeypatch.setattr(plugins.Registry, "names", property(lambda self: kinds[self.kind]))
    monkeypatch.setattr(TARGETS.get(name), "unavailable", lambda: None)
    monkeypatch.setattr(doctor, "_reach", crash)
    (found,) = doctor.examine()
    assert found.broken
    assert found.state == f"does not work: OSError: no more{mend}"
