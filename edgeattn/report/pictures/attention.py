"""Attention maps: the context scores of a model's attention layers over its input image."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeattn.report.pictures import canvas


@dataclass(frozen=True)
class Attention:
    """The attention maps of one image: ``image`` [H, W, 3] from 0 to 1, ``scores`` [h, w] by layer."""

    model: str
    about: str
    image: npt.NDArray[np.float32]
    scores: dict[str, npt.NDArray[np.float32]]


_COLUMNS = 4
# A layer whose largest score is less than this many times the mean looks at no particular position.
_UNIFORM = 1.05


def describe(attention: Attention) -> str:
    """A description for those who cannot see the picture: where each layer's scores are largest."""
    parts = []
    for layer, scores in _named(attention.scores).items():
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        high, wide = ((n + 0.5) / size for n, size in zip((row, column), scores.shape, strict=True))
        where = f"most {_third(high, 'at the top', 'at the bottom')}, {_third(wide, 'on the left', 'on the right')}"
        uniform = _spread(scores) < _UNIFORM
        parts.append(
            f"{layer} everywhere alike" if uniform else f"{layer} {where}, {_spread(scores):.1f} times the mean"
        )
    return f"The image, and over it the context scores of {len(parts)} layers, which look: " + "; ".join(parts) + "."


def draw(attention: Attention, *, title: str) -> str:
    """The image, and a copy of it for each layer that is not uniform, bright where the layer looks."""
    drawn = {layer: s for layer, s in _named(attention.scores).items() if _spread(s) >= _UNIFORM}
    columns = min(_COLUMNS, 1 + len(drawn))
    rows = math.ceil((1 + len(drawn)) / columns)
    grey = attention.image.mean(axis=2)
    height, width = grey.shape
    with canvas.figure(4.6, 1.3 * rows) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        axes[0].imshow(attention.image, interpolation="nearest")
        axes[0].set_title("image", fontsize=7)
        for axis, (layer, scores) in zip(axes[1:], drawn.items(), strict=False):
            axis.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axis.imshow(
                scores,
                cmap="magma",
                alpha=_opacity(scores),
                interpolation="nearest",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )
            axis.set_title(canvas.plain(layer, 22), fontsize=7)
        for axis in axes:
            axis.set_axis_off()
        return canvas.svg(figure, title, describe(attention))


def _spread(scores: npt.NDArray[np.float32]) -> float:
    """The largest score, as a multiple of the mean."""
    return float(scores.max()) * scores.size / max(float(scores.sum()), 1e-30)


def _opacity(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Opacity of the scores: the image is visible where they are small."""
    least, most = float(scores.min()), float(scores.max())
    opacity: npt.NDArray[np.float32] = 0.15 + 0.6 * (scores - least) / max(most - least, 1e-30)
    return opacity


def _named(scores: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """The scores by shorter names: dotted paths without their common first and last parts."""
    paths = [name.split(".") for name in scores]
    while min(map(len, paths)) > 1 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    while min(map(len, paths)) > 1 and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    return dict(zip((".".join(path) for path in paths), scores.values(), strict=True))


def _third(position: float, low: str, high: str) -> str:
    return low if position < 1 / 3 else high if position > 2 / 3 else "in the middle"
