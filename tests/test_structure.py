"""The house: imports run downwards, heavy packages come late, and the surface is what it was."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edgeattn
from edgeattn import errors

ROOT = Path(__file__).parent.parent
# From the ground up: a room imports from itself and from those before it. What stands in edgeattn/ itself is below all.
ROOMS = (
    "system",
    "sample_models",
    "bundle",
    "lowering",
    "formats",
    "runtimes",
    "targets",
    "inspection",
    "parity",
    "snippets",
    "export",
    "profile",
    "phone",
    "published",
    "report",
    "setups",
    "interface",
    "cli",
)
HEAVY = {
    "torch",
    "numpy",
    "onnx",
    "onnx_ir",
    "onnxruntime",
    "coremltools",
    "litert_torch",
    "ai_edge_litert",
    "matplotlib",
    "jinja2",
    "rich.table",
}


def imports(file: Path) -> Iterator[tuple[int, str]]:
    """What a file imports, at its top or later, with the line."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def files(folder: str) -> list[Path]:
    """All Python files, those behind the links edgeattn/export and edgeattn/sample_models too."""
    walked = os.walk(ROOT / folder, followlinks=True)
    return sorted(Path(place, name) for place, _, names in walked for name in names if name.endswith(".py"))


def height(module: str) -> int:
    """The room of ``edgeattn.ROOM...``, counted from the ground; below all, what is in none."""
    room = module.split(".")[1] if "." in module else ""
    return ROOMS.index(room) if room in ROOMS else -1


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def test_every_package_is_a_room() -> None:
    assert {file.parent.name for file in (ROOT / "edgeattn").glob("*/__init__.py")} == set(ROOMS)


def test_imports_run_downwards() -> None:
    wrong = [
        f"{file.relative_to(ROOT)}:{line} imports {imported}"
        for file in files("edgeattn")
        for line, imported in imports(file)
        if imported.split(".")[0] == "edgeattn"
        and height(imported) > height(name_of(file))
        # The package's own face: what is re-exported lazily, and `python -m edgeattn`.
        and file not in (ROOT / "edgeattn/__init__.py", ROOT / "edgeattn/__main__.py")
    ]
    assert not wrong, "\n".join(wrong)


def test_the_folders_are_not_import_names() -> None:
    """A user's own export.py must not meet ours, nor ours theirs."""
    for folder in ("edgeattn", "tests", "benchmarks", "examples", "tools"):
        for file in files(folder):
            wrong = {name for _, name in imports(file) if name.split(".")[0] in ("export", "sample_models")}
            assert not wrong, f"{file} imports {wrong}"


def test_no_file_is_too_long_to_read() -> None:
    long = [file for folder in ("edgeattn", "tests", "benchmarks") for file in files(folder)
            if len(file.read_text().splitlines()) > 400]  # fmt: skip
    assert not long


@pytest.mark.parametrize("module", ["edgeattn.cli.main", "edgeattn", "edgeattn.sample_models"])
def test_nothing_heavy_is_imported_for_help(module: str) -> None:
    """The help answers fast because of what it does not import; a clock would say so only on a quiet machine."""
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_every_module_imports_without_the_vendors() -> None:
    """In a bare environment: every vendor's package is made to fail on import."""
    vendors = [
        "onnx",
        "onnx_ir",
        "onnxscript",
        "onnxruntime",
        "coremltools",
        "litert_torch",
        "ai_edge_litert",
        "tflite_runtime",
        "matplotlib",
        "jinja2",
    ]
    names = ", ".join(map(name_of, files("edgeattn")))
    code = f"import sys; sys.modules.update(dict.fromkeys({vendors!r}))\nimport {names}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_surface() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    rest = {"Bundle", "LinearSelfAttention", "Preprocessing", "__version__", "assert_parity", "context_score_map"}
    rest |= {"deploy", "lower"}
    assert set(edgeattn.__all__) == kinds | rest
    assert edgeattn.__all__ == sorted(edgeattn.__all__)
    for name in edgeattn.__all__:
        assert getattr(edgeattn, name)
        assert name in dir(edgeattn)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(edgeattn, "noth" + "ing")


def test_exit_codes_stand_in_the_tree() -> None:
    assert issubclass(errors.BadInputError, ValueError)
    assert {e.exit_code for e in (errors.BadInputError, errors.LoweringError, errors.ArtifactError)} == {2}
    assert errors.MissingError.exit_code == 3
    assert "pip install 'edgeattn[onnx]'" in str(errors.MissingError.package("onnx", extra="onnx"))


@pytest.mark.parametrize(
    "room",
    [
        *(
            "edgeattn.formats",
            "edgeattn.runtimes",
            "edgeattn.targets",
            "edgeattn.phone",
            "edgeattn.inspection.inspect",
            "edgeattn.parity.diff",
        ),
        *(
            "edgeattn.parity.check",
            "edgeattn.parity.selftest",
            "edgeattn.parity.layers",
            "edgeattn.parity.ci",
            "edgeattn.snippets",
            "edgeattn.report.gather",
            "edgeattn.report",
            "edgeattn.interface",
        ),
    ],
)
def test_no_torch_where_none_is_needed(room: str) -> None:
    """All of a room, its plug-ins too: who measures, judges and reports need not wait for what converts."""
    heavy = ["torch", "onnx", "coremltools", "litert_torch"]
    folder = ROOT / room.replace(".", "/")
    modules = [room, *(f"{room}.{file.stem}" for file in sorted(folder.glob("[!_]*.py")))]
    code = f"import sys, {', '.join(modules)}; print(*sorted(set({heavy!r}) & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not found
