"""docs/licences.md, and what a phone is shown, against what is really there."""

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from edgeattn.phone import setup

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "licences.md").read_text()


@pytest.fixture(scope="module")
def licences() -> ModuleType:
    spec = importlib.util.spec_from_file_location("licences", ROOT / "tools" / "licences.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_python_package_stands_there_with_its_licence(licences: ModuleType) -> None:
    assert licences.with_table(PAGE) == PAGE, "write it again: python tools/licences.py"
    assert licences.with_table(PAGE.replace("| numpy |", "| numbers |")) == PAGE


def test_all_that_is_locked_is_listed_and_none_asks_for_more(licences: ModuleType) -> None:
    rows = re.findall(r"(?m)^\| (\S+) \| (.+) \| (?:edgeattn|its extras|development) \|$", PAGE)
    locks = "".join((ROOT / lock).read_text() for lock in ("requirements.txt", "requirements-torch.txt"))
    assert {name for name, _ in rows} == set(re.findall(r"(?m)^([\w-]+)==", locks))
    known = r"MIT|Apache|BSD|ISC|PSF|Python Software|MPL|Mozilla|Zlib|CC0|Public Domain|BSL|CNRI"
    assert [
        row for row in rows if not re.search(known, row[1]) or re.search("GPL|Proprietary|Commercial", row[1])
    ] == []


def test_what_is_served_to_a_phone_has_its_licence_beside_it() -> None:
    packages = {"/".join(file.split("/")[: 2 if file.startswith("@") else 1]) for file in setup.FILES.values()}
    lock = json.loads((setup.data("npm") / "package-lock.json").read_text())["packages"]
    texts = setup.data("licences")
    shown = (texts / "README.md").read_text()
    names = {"MIT": "onnxruntime.txt", "Apache-2.0": "Apache-2.0.txt"}
    # onnxruntime-common is inside onnxruntime-web's scripts.
    for package in {*packages, "onnxruntime-common"}:
        licence = lock[f"node_modules/{package}"]["license"]
        assert f"| {package} | {licence} | {names[licence]} |" in PAGE
        assert re.search(rf"{package}.*{names[licence]}", shown)
    assert "Permission is hereby granted" in (texts / "onnxruntime.txt").read_text()
    assert "Copyright (c) Microsoft" in (texts / "onnxruntime.txt").read_text()
    assert "Version 2.0, January 2004" in (texts / "Apache-2.0.txt").read_text()


def test_a_text_of_ours_is_there() -> None:
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    for extra in re.findall(r"`(export/[^`*]+|sample_models/[^`*]+)`", PAGE):
        assert (ROOT / extra).exists(), extra
