"""What a manifest says of how an artifact was made is typed, and flat as it was; others' keys stay."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle.details import Details


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"opset": 18},
        {"kept_in_fp32": [], "kept_ops": 0, "edges": "float32", "weights": "6 bit palettes"},
        {"static_ops": 1, "dynamic_ops": 2, "float_ops": 3, "kept_in_fp32": ["Exp"], "kept_by_name": ["a", "b"]},
        {"opset": 18, "of_a_plug_in": {"any": [1, None]}},
        # A plug-in's own key may be spelled as one of ours, and mean something else.
        {"opset": "18"},
        {"opset": True, "edges": None, "weights": ["a", 1], "kept_in_fp32": ["a", 1], "other": {"opset": 1}},
    ],
)
def test_it_stands_in_a_manifest_as_it_was_read(document: dict[str, Any]) -> None:
    assert Details.read(document).document() == document


def test_what_is_known_has_its_type() -> None:
    found = Details.read({"kept_in_fp32": ["Exp"], "opset": 18, "new": 1})
    assert (found.kept_in_fp32, found.opset, found.other) == (("Exp",), 18, {"new": 1})
    assert found == Details(kept_in_fp32=("Exp",), opset=18, other={"new": 1})


def test_the_order_is_that_of_the_attributes() -> None:
    made = replace(Details(edges="float32", static_ops=3, other={"new": 1}), kept_by_name=("a",))
    assert list(made.document()) == ["static_ops", "edges", "kept_by_name", "new"]


def test_a_bundle_of_another_makers_opens(made_bundle: Path, tmp_path: Path) -> None:
    bundle = bundles.load(made_bundle)
    assert {artifact.details.opset for artifact in bundle.manifest.artifacts} == {None, 18}
    document = json.loads((made_bundle / bundles.MANIFEST).read_bytes())
    assert bundles.document(bundle.manifest) == document
    document["artifacts"][0]["details"] |= {"of_a_plug_in": {"any": [1, None]}, "edges": 7}
    copy = shutil.copytree(made_bundle, tmp_path / "b")
    (copy / bundles.MANIFEST).write_text(json.dumps(document))
    assert bundles.document(bundles.load(copy).manifest) == document
