"""Where a vision model looks: computed when its bundle is made, read without PyTorch."""

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeattn import context_score_map
from export import attention_map, cases, source
from export import bundle as bundles
from export.attention_map import _grid


def test_where_a_vision_model_looks(tmp_path: Path) -> None:
    loaded = source.load("digits")
    file = attention_map.write(loaded, {"example": cases.Case("the model's own example", loaded.inputs)}, tmp_path)
    assert file
    manifest = type("Manifest", (), {"attention": file, "model": "digits"})()
    maps = attention_map.read(bundles.Bundle(tmp_path, manifest))
    assert [found.about for found in maps] == [f"an input of class {i}" for i in range(4)]
    first = maps[0]
    assert first.image.shape == (64, 64, 3)
    assert (first.image.min(), first.image.max()) == (0, 1)
    assert [values.shape for values in first.scores.values()] == [(8, 8)] * 2 + [(4, 4)] * 4 + [(2, 2)] * 3
    for values in first.scores.values():
        assert values.sum() == pytest.approx(4, rel=1e-5), "each of the four offsets sums to 1"

    # The first layer's map, computed beside the model.
    seen: dict[str, torch.Tensor] = {}
    layer = loaded.module.get_submodule(next(iter(first.scores)))
    handle = layer.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    assert loaded.evaluation
    image = loaded.evaluation.inputs[loaded.evaluation.labels.tolist().index(0)]
    source.run(loaded.module, {"image": image[None]})
    handle.remove()
    expected = context_score_map(layer, seen["x"], patch_size=(2, 2), grid=(4, 4))[0].detach().numpy()
    np.testing.assert_array_equal(next(iter(first.scores.values())), expected)


def test_no_map_without_an_image(tmp_path: Path) -> None:
    layer = source.load("attention", ["embed_dim=32", "pixels=4", "patches=16"])
    assert attention_map.write(layer, {"example": cases.Case("example", layer.inputs)}, tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("patches", "aspect", "grid"), [(320, 0.8, (16, 20)), (64, 1, (8, 8)), (2, 2.0, (2, 1))])
def test_the_grid_of_patches(patches: int, aspect: float, grid: tuple[int, int]) -> None:
    assert _grid(patches, aspect) == grid
