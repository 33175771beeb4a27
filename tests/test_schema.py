"""The JSON Schemas in docs/schema are those of the dataclasses, and real files fit them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from edgeattn.bundle import manifest, records, schema
from edgeattn.bundle.golden import golden_cases
from edgeattn.report.gather import gather

FOLDER = Path(__file__).parent.parent / "docs/schema"
GOLDEN = Path(__file__).parent / "golden"
OLD = GOLDEN / "records-1.json"


def published(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FOLDER / f"{name}.schema.json").read_text())
    return document


def check(document: Any, name: str) -> None:
    jsonschema.Draft202012Validator(published(name)).validate(document)


@pytest.mark.parametrize("name", schema.DOCUMENTS)
def test_they_are_current(name: str, tmp_path: Path) -> None:
    schema.write(tmp_path)
    file = f"{name}.schema.json"
    assert (FOLDER / file).read_text() == (tmp_path / file).read_text(), "python -m edgeattn.bundle.schema docs/schema"
    jsonschema.Draft202012Validator.check_schema(published(name))
    assert sorted(path.name for path in FOLDER.iterdir()) == sorted(path.name for path in tmp_path.iterdir())


def test_a_bundle_fits(made_bundle: Path) -> None:
    check(json.loads((made_bundle / "manifest.json").read_text()), "manifest")


def test_records_fit(made_bundle: Path, tmp_path: Path, edgeattn: Callable[..., Any]) -> None:
    out = tmp_path / "r.json"
    assert edgeattn("profile", made_bundle, "--runs", 3, "--warmup", 1, "--out", out).code == 0
    document = json.loads(out.read_text())
    assert document["records"]
    assert document["not_run"]
    check(document, "records")


@pytest.mark.parametrize("version", range(1, records.SCHEMA + 1))
def test_records_of_every_schema_fit(version: int) -> None:
    path = GOLDEN / f"records-{version}.json"
    assert records.load(path).schema_version == version
    assert gather([path]).records
    check(json.loads(path.read_text()), "records")


@pytest.mark.parametrize("version", range(1, manifest.SCHEMA + 1))
def test_bundles_of_every_schema_open(version: int) -> None:
    """Each manifest was written by the code of its schema; the artifact in it is none, as only its hash is read."""
    folder = GOLDEN / f"bundle-{version}"
    held = manifest.load(folder)
    assert held.manifest.schema_version == version
    assert held.manifest.inputs[0].name in golden_cases(held)["example"].inputs
    assert all(judged.passed for judged in gather([folder], inside=False).judged)
    check(json.loads((folder / "manifest.json").read_text()), "manifest")


@pytest.mark.parametrize(
    ("damage", "where"),
    [
        (lambda d: d.update(schema_version=99), "schema_version"),
        (lambda d: d["records"][0].update(origin="moon"), "origin"),
        (lambda d: d["records"][0].update(samples_ns=["3"]), "samples_ns"),
        (lambda d: d["records"][0]["subject"].pop("sha256"), "subject"),
    ],
)
def test_what_does_not_fit_is_told(damage: Callable[[Any], None], where: str) -> None:
    document = json.loads(OLD.read_text())
    damage(document)
    with pytest.raises(jsonschema.ValidationError) as wrong:
        check(document, "records")
    assert where in wrong.value.absolute_path
