"""Where a vision model looks: computed when its bundle is made, read without PyTorch."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from safetensors.numpy import save_file

from edgeattn import context_score_map
from edgeattn.bundle import manifest as bundles
from edgeattn.errors import ArtifactError
from edgeattn.export import cases, source
from edgeattn.export.attention_maps import write
from edgeattn.lowering import Understood, understand
from edgeattn.report import attention_maps


def understood(loaded: source.Source) -> Understood:
    return understand(loaded.module, tuple(loaded.inputs.values()))


def test_where_a_vision_model_looks(tmp_path: Path) -> None:
    loaded = source.load("digits")
    chosen = {"example": cases.Case("the model's own example", loaded.inputs)}
    file = write(loaded, understood(loaded), chosen, tmp_path)
    assert file
    manifest = type("Manifest", (), {"attention": file, "model": "digits"})()
    maps = attention_maps.read(bundles.Bundle(tmp_path, manifest))
    assert [found.about for found in maps] == [f"an input of class {i}" for i in range(4)]
    first = maps[0]
    assert first.image.shape == (64, 64, 3)
    assert (first.image.min(), first.image.max()) == (0, 1)
    assert [values.shape for values in first.scores.values()] == [(8, 8)] * 2 + [(4, 4)] * 4, "one patch has no scores"
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
    np.testing.assert_allclose(next(iter(first.scores.values())), expected, rtol=1e-5)


def test_no_map_without_an_image(tmp_path: Path) -> None:
    layer = source.load("attention", ["embed_dim=32", "pixels=4", "patches=16"])
    assert write(layer, understood(layer), {"example": cases.Case("example", layer.inputs)}, tmp_path) is None
    assert not list(tmp_path.iterdir())


def _read(folder: Path, image: npt.NDArray[Any], scores: npt.NDArray[Any], told: str) -> object:
    path = folder / "maps.safetensors"
    save_file({"image/0": image, "scores/0/0": scores}, path, metadata={"maps": told})
    manifest = type("Manifest", (), {"attention": bundles.describe(folder, path), "model": "m"})()
    return attention_maps.read(bundles.Bundle(folder, manifest))


TOLD = '[{"about": "a", "layers": ["b"]}]'
IMAGE, SCORES = np.zeros((3, 4, 4), np.float32), np.ones((2, 2), np.float16)


@pytest.mark.parametrize(
    ("image", "scores", "told"),
    [
        (IMAGE[:2], SCORES, TOLD),
        (IMAGE[:, 0], SCORES, TOLD),
        (IMAGE[:, :0], SCORES, TOLD),
        (IMAGE * np.float32("nan"), SCORES, TOLD),
        (IMAGE, SCORES[0], TOLD),
        (IMAGE, SCORES[:0], TOLD),
        (IMAGE, SCORES.astype(np.complex64), TOLD),
        (IMAGE, SCORES.astype(np.float64) * 1e300, TOLD),
        (IMAGE, SCORES, '[{"about": "a", "layers": []}]'),
        (IMAGE, SCORES, '[{"about": {}, "layers": ["b"]}]'),
        (IMAGE, SCORES, '[{"about": "a", "layers": [1]}]'),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    image: npt.NDArray[Any], scores: npt.NDArray[Any], told: str, tmp_path: Path
) -> None:
    """Found by fuzzing: 11 of 258 damaged bundles made `report` end in a traceback."""
    assert _read(tmp_path, IMAGE, SCORES, TOLD)
    with pytest.raises(ArtifactError, match="holds no attention maps"):
        _read(tmp_path, image, scores, told)
