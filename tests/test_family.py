"""The table of `make bench-family`, and timm beside our torch; only the benchmark itself converts the models."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks import real_timm
from benchmarks.family.measure import DIFFERENT, OURS, SAME, STOCK, Row
from benchmarks.family.models import MEMBERS, build
from benchmarks.family.table import BEGIN, END, faults, table, write

STOCK_ROW = Row("repvit_m0_9", "onnx", STOCK, 10, 1, 2_000_000, None, SAME, 1.25)
OURS_ROW = replace(STOCK_ROW, form=OURS, layout_ops=0, noise_units=0.5)


def test_timm_is_loaded_as_it_is() -> None:
    timm = real_timm.load()
    assert timm is real_timm.load()
    known = set(timm.list_models())
    assert {member.name for member in MEMBERS if member.package == "timm"} <= known


def test_a_model_is_always_the_same_and_has_no_part_without_effect() -> None:
    member = replace(next(m for m in MEMBERS if m.name == "convnext_atto"), side=64)
    (model, image), (again, _) = build(member), build(member)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))
    assert image.shape == (1, 3, 64, 64)
    assert not any(bool((p == p.flatten()[0]).all()) for p in model.parameters() if p.numel() > 1)


def test_one_line_for_stock_and_ours() -> None:
    *_, line = table([STOCK_ROW, OURS_ROW]).splitlines()
    assert line == "| RepViT-M0.9 | timm | onnx | 10 | 1 → 0 | 2 M | - | same, 1.25 | same, 0.5 |"
    *_, line = table([STOCK_ROW, Row("repvit_m0_9", "onnx", OURS, refusal="no | yes")]).splitlines()
    assert "10 → -" in line
    assert line.endswith("does not convert: no \\| yes |")


def test_nothing_is_wrong_with_less() -> None:
    assert faults([STOCK_ROW, OURS_ROW]) == []
    assert faults([replace(STOCK_ROW, refusal="no"), replace(OURS_ROW, refusal="no")]) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"verdict": DIFFERENT}, "another model"),
        ({"operators": 11}, "operators: 10 in the stock file, 11 in ours"),
        ({"layout_ops": 2}, "layout ops: 1 in"),
        ({"macs": 2_000_001}, "macs: "),
        ({"refusal": "no"}, "converts as it is"),
    ],
)
def test_what_must_not_be_is_said(change: dict[str, object], said: str) -> None:
    (fault,) = faults([STOCK_ROW, replace(OURS_ROW, **change)])  # type: ignore[arg-type]
    assert said in fault


def test_only_what_is_marked_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, "new \\1")
    write(page, "new \\1")
    assert page.read_text() == f"before\n{BEGIN}\n\nnew \\1\n\n{END}\nafter\n"
    page.write_text("nothing marked")
    with pytest.raises(ValueError, match="must have"):
        write(page, "new")


def test_vision_models_of_others_are_imported_in_a_process_of_its_own_too() -> None:
    code = (
        "import sys; assert not {'torch', 'torchvision'} & set(sys.modules); "
        "from transformers import MobileViTV2Model; import timm, torchvision"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
