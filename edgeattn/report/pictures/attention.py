"""Where a model looks: the context scores of its attention layers, over the image that it was given."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeattn.report.pictures import canvas


@dataclass(frozen=True)
class Attention:
    """Where a model looks in one image: ``image`` [H, W, 3] from 0 to 1, ``scores`` [h, w] by the layer's name."""

    model: str
    about: str
    image: npt.NDArray[np.float32]
    scores: dict[str, npt.NDArray[np.float32]]


_COLUMNS = 4
# Below so many times the mean a layer prefers no place.
_ALIKE = 1.05


def describe(attention: Attention) -> str:
    """What the picture shows, for those who cannot see it: where each layer's scores lie."""
    parts = []
    for layer, scores in _named(attention.scores).items():
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        high, wide = ((n + 0.5) / size for n, size in zip((row, column), scores.shape, strict=True))
        where = f"most {_third(high, 'at the top', 'at the bottom')}, {_third(wide, 'on the left', 'on the right')}"
        alike = _spread(scores) < _ALIKE
        parts.append(f"{layer} everywhere alike" if alike else f"{layer} {where}, {_spread(scores):.1f} times the mean")
    return f"The image, and over it the context scores of {len(parts)} layers, which look: " + "; ".join(parts) + "."


def draw(attention: Attention, *, title: str) -> str:
    """The image, and a copy of it for each layer that prefers a place, bright where it looks."""
    drawn = {layer: s for layer, s in _named(attention.scores).items() if _spread(s) >= _ALIKE}
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
    """The largest score over the mean one."""
    return float(scores.max()) * scores.size / max(float(scores.sum()), 1e-30)


def _opacity(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Where a layer does not look, the image shines through."""
    least, most = float(scores.min()), float(scores.max())
    opacity: npt.NDArray[np.float32] = 0.15 + 0.6 * (scores - least) / max(most - least, 1e-30)
    return opacity


def _named(scores: dict[str, npt.NDArray[np.float32]]) -> dict[str, npt.NDArray[np.float32]]:
    """By dotted paths without the parts that all of them begin and end with."""
    paths = [name.split(".") for name in scores]
    while min(map(len, paths)) > 1 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    while min(map(len, paths)) > 1 and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    return dict(zip((".".join(path) for path in paths), scores.values(), strict=True))


def _third(place: float, low: str, high: str) -> str:
    return low if place < 1 / 3 else high if place > 2 / 3 else "in the middle"
