"""Plug-ins are typed: mypy refuses a wrong one, and a wrong use of one."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeattn.errors import BadInputError
from edgeattn.export.quantize import QUANTIZERS
from edgeattn.formats import FORMATS
from edgeattn.parity.mutation import EDITORS
from edgeattn.profile.studies import STUDIES
from edgeattn.report.forms import FORMS
from edgeattn.report.studies import CHAPTERS
from edgeattn.runtimes import RUNTIMES
from edgeattn.sample_models import MODELS
from edgeattn.setups import SETUPS
from edgeattn.system import plugins
from edgeattn.system.plugins import Registry
from edgeattn.targets import TARGETS

ROOT = Path(__file__).parent.parent
REGISTRIES: tuple[Registry[object], ...] = (
    *(FORMATS, RUNTIMES, TARGETS, SETUPS, STUDIES, QUANTIZERS, EDITORS),
    *(FORMS, CHAPTERS, MODELS),
)

# What each snippet gets wrong, and the end of what mypy says of it.
WRONG = {
    "a wrong signature in a runtime": (
        """
        from edgeattn.runtimes.onnxruntime import OnnxRuntime
        class Wrong(OnnxRuntime):
            def version(self) -> int: return 1
        """,
        'Return type "int" of "version" incompatible with return type "str" in supertype',
    ),
    "a misspelled call on a format": (
        """
        from edgeattn.formats import FORMATS
        FORMATS.get("onnx").raed
        """,
        '"Format" has no attribute "raed"',
    ),
    "a format without a member": (
        """
        from edgeattn.formats import Format, FORMATS
        class Wrong(Format):
            suffix = ".wrong"
        FORMAT: Format = Wrong()
        """,
        'Cannot instantiate abstract class "Wrong" with abstract attributes',
    ),
    "an ability used where it may be missing": (
        """
        from pathlib import Path
        from edgeattn.runtimes import RUNTIMES
        RUNTIMES.get("onnxruntime").observe(Path(), {}, print)
        """,
        '"None" not callable',
    ),
    "a setting of the wrong type in a target": (
        """
        from edgeattn.targets.host import Host
        class Wrong(Host):
            settings = 1
        """,
        'expression has type "int"',
    ),
    "a target that forgets the address": (
        """
        from collections.abc import Mapping
        from contextlib import AbstractContextManager
        from edgeattn.targets import Connection, Target
        class Wrong(Target):
            def connect(self, settings: Mapping[str, str]) -> AbstractContextManager[Connection]: ...
        """,
        'Signature of "connect" incompatible with supertype',
    ),
    "a target without a member": (
        """
        from edgeattn.targets import Target
        class Wrong(Target):
            settings = ("cpu",)
        TARGET: Target = Wrong()
        """,
        'with abstract attributes "connect", "origin" and "unavailable"',
    ),
    "a study that answers nothing of its kind": (
        """
        from edgeattn.profile.studies import Study
        class Wrong(Study):
            formats = ("onnx",)
            def groups(self, quick: bool, /) -> int: return 1
        """,
        'Signature of "groups" incompatible with supertype',
    ),
    "a quantiser of another job": (
        """
        from edgeattn.export.quantize.onnx import OnnxQuantizer
        class Wrong(OnnxQuantizer):
            def candidates(self, path: str) -> list[tuple[str, str]]: return []
        """,
        'Argument 1 of "candidates" is incompatible with supertype',
    ),
    "a form of another document": (
        """
        from edgeattn.report.forms import Form
        class Wrong(Form):
            def write(self, document: str) -> bytes: return b""
        """,
        'Argument 1 of "write" is incompatible with supertype "edgeattn.report.forms.Form"',
    ),
    "a chapter without a statement": (
        """
        from collections.abc import Sequence
        from edgeattn.bundle.records import Record
        from edgeattn.report.document import Section
        from edgeattn.report.studies import Chapter
        class Wrong(Chapter):
            title, order = "?", 1
            def section(self, records: Sequence[Record]) -> Section: raise NotImplementedError
        CHAPTER: Chapter = Wrong()
        """,
        'with abstract attribute "statement"',
    ),
    "a sample model that recognises files": (
        """
        from pathlib import Path
        from edgeattn.sample_models.attention import Attention
        class Wrong(Attention):
            def recognise(self, path: Path) -> None: ...
        """,
        'Signature of "recognise" incompatible with supertype',
    ),
    "an editor that forgets what it edits": (
        """
        from edgeattn.parity.mutation.onnx import OnnxEditor
        class Wrong(OnnxEditor):
            def edits(self) -> tuple[()]: return ()
        """,
        'Signature of "edits" incompatible with supertype',
    ),
}


def test_mypy_refuses_each_of_these(tmp_path: Path) -> None:
    files = {what: tmp_path / f"wrong_{number}.py" for number, what in enumerate(WRONG)}
    for what, file in files.items():
        file.write_text(re.sub(r"(?m)^ {8}", "", WRONG[what][0]))
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", *map(str, files.values())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    for what, file in files.items():
        said = [line for line in done.stdout.splitlines() if file.name in line and ": error:" in line]
        assert any(WRONG[what][1] in line for line in said), (what, done.stdout)


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_each_file_holds_one_object_that_is_annotated(registry: Registry[object]) -> None:
    """Without the annotation mypy would compare it with nothing."""
    assert registry.names
    for name in registry.names:
        module = sys.modules[type(registry.get(name)).__module__]
        assert module.__file__
        annotated = {
            node.target.id: ast.unparse(node.annotation)
            for node in ast.parse(Path(module.__file__).read_text()).body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        assert annotated.get(registry.kind.upper()) == registry.kind.capitalize(), module.__file__


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_what_there_is_not_is_said_with_what_there_is(registry: Registry[object]) -> None:
    with pytest.raises(BadInputError, match=f"there is no {registry.kind} 'nope'; choose from") as said:
        registry.get("nope")
    for name in registry.names:
        assert plugins.spelled(name) in str(said.value)


@pytest.mark.parametrize("folder", ["edgeattn", "export", "sample_models"])
def test_no_plugin_is_asked_by_name_what_it_can(folder: str) -> None:
    """``hasattr`` and ``getattr`` with a default, on what is ours, are what a Protocol is for."""
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in (ROOT / folder).rglob("*.py")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(r"hasattr\((target|runtime|format_|plugin|study|m)\b", line)
        or re.search(r"getattr\((target|runtime|format_|plugin|plugins\.get)\b.*,.*,", line)
    ]
    assert not found
