"""The house: imports run downwards, heavy packages come late, and the surface is what it was."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import edgeattn
from edgeattn import errors

ROOT = Path(__file__).parent.parent
FLOORS = ("edgeattn", "sample_models", "export")
# Inside export, from the ground up; a module may import from its own storey only where that is a package's own face.
STOREYS = (
    (
        "export.plugins",
        "export.cache",
        "export.parallel",
        "export.quiet",
        "export.vendor_errors",
        "export.npy",
        "export.foreign",
        "export.probe",
        "export._probe",
        "export.hub",
        "export.bundle",
        "export.source",
        "export.versions",
        "export.steps",
    ),
    ("export.mil",),
    ("export.formats", "export.runtimes"),
    ("export.targets", "export.precisions", "export.calibration"),
    ("export.conversion",),
    (
        "export.cases",
        "export.inspection",
        "export._inspect",
        "export.verify",
        "export.evaluate",
        "export.golden",
        "export.mutation",
        "export.recording",
        "export.layers",
        "export.attention_map",
        "export.operators",
        "export.tables",
    ),
    (
        "export.selftest",
        "export.summary",
        "export.compare",
        "export.reporting",
        "export.recommend",
        "export.schema",
    ),
    ("export.sensitivity",),
    (
        "export.pipeline",
        "export.profile",
        "export.picture",
        "export.render",
        "export.render_records",
        "export.measured",
    ),
    ("export.studies", "export.phone"),
    ("export.setups",),
    ("export.doctor",),
    ("export.commands",),
    ("export.cli",),
)
HEAVY = {
    "torch",
    "numpy",
    "onnx",
    "onnxruntime",
    "coremltools",
    "litert_torch",
    "ai_edge_litert",
    "matplotlib",
    "jinja2",
    "rich.table",
}


def imports(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def storey(name: str) -> int | None:
    places = [i for i, names in enumerate(STOREYS) for n in names if name == n or name.startswith(n + ".")]
    return max(places, default=None)


def test_imports_run_downwards() -> None:
    for height, package in enumerate(FLOORS):
        above = FLOORS[height + 1 :]
        for file in files(package):
            wrong = {name for name in imports(file) if name.split(".")[0] in above}
            assert not wrong, f"{file} imports upwards: {wrong}"


def test_inside_export_too() -> None:
    for file in files("export"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        own = storey(name)
        if own is None:
            assert name == "export"
            continue
        for imported in imports(file):
            other = storey(imported)
            assert other is None or other <= own, f"{name} imports {imported}, which stands above it"


def test_no_file_is_too_long_to_read() -> None:
    long = [file for package in (*FLOORS, "tests", "benchmarks") for file in files(package)
            if len(file.read_text().splitlines()) > 400]  # fmt: skip
    assert not long


@pytest.mark.parametrize("module", ["export.cli", "edgeattn", "sample_models"])
def test_nothing_heavy_is_imported_for_help(module: str) -> None:
    """The help answers fast because of what it does not import; a clock would say so only on a quiet machine."""
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


def test_every_module_imports_without_the_vendors() -> None:
    """In a bare environment: every vendor's package is made to fail on import."""
    names = [".".join(f.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
             for package in FLOORS for f in files(package)]  # fmt: skip
    vendors = [
        "onnx",
        "onnxscript",
        "onnxruntime",
        "coremltools",
        "litert_torch",
        "ai_edge_litert",
        "tflite_runtime",
        "matplotlib",
        "jinja2",
    ]
    code = f"import sys; sys.modules.update(dict.fromkeys({vendors!r}))\nimport {', '.join(names)}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_public_surface() -> None:
    assert sorted(edgeattn.__all__) == ["LinearSelfAttention", "__version__", "context_score_map", "lower"]
    for name in edgeattn.__all__:
        assert getattr(edgeattn, name)
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
        *("export.formats", "export.runtimes", "export.targets", "export.phone", "export.inspection", "export.compare"),
        *("export.verify", "export.selftest", "export.layers", "export.summary", "export.reporting", "edgeattn.report"),
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
