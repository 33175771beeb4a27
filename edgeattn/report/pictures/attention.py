"""Where a model looks: the context scores of its attention layers, over the image that it was given."""

import math

import numpy as np
import numpy.typing as npt

from edgeattn.report.content import Attention
from edgeattn.report.pictures import canvas

_COLUMNS = 4
# Below so many times the mean a layer prefers no place.
_ALIKE = 1.05


def describe(attention: Attention) -> str:
    """What the picture shows, for those who cannot see it: where each layer's scores lie."""
    parts = []
    for layer, scores in attention.scores.items():
        row, column = np.unravel_index(int(scores.argmax()), scores.shape)
        high, wide = ((n + 0.5) / size for n, size in zip((row, column), scores.shape, strict=True))
        spread = scores.max() * scores.size / max(float(scores.sum()), 1e-30)
        where = f"most {_third(high, 'at the top', 'at the bottom')}, {_third(wide, 'on the left', 'on the right')}"
        parts.append(
            f"{layer} everywhere alike" if spread < _ALIKE else f"{layer} {where}, {spread:.1f} times the mean"
        )
    return f"The image, and over it the context scores of {len(parts)} layers, which look: " + "; ".join(parts) + "."


def draw(attention: Attention, *, title: str) -> str:
    """The image, and a copy of it for each layer, bright where the layer looks."""
    panels = 1 + len(attention.scores)
    columns = min(_COLUMNS, panels)
    rows = math.ceil(panels / columns)
    grey = attention.image.mean(axis=2)
    with canvas.figure(4.6, 1.3 * rows) as figure:
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        axes[0].imshow(attention.image, interpolation="nearest")
        axes[0].set_title("image")
        named = zip(_short(list(attention.scores)), attention.scores.values(), strict=True)
        for axis, (layer, scores) in zip(axes[1:], named, strict=False):
            axis.imshow(grey, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            height, width = grey.shape
            axis.imshow(
                scores, cmap="magma", alpha=_opacity(scores), interpolation="nearest",
                extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            )  # fmt: skip
            axis.set_title(canvas.plain(layer, 22), fontsize=7)
        for axis in axes:
            axis.set_axis_off()
        return canvas.svg(figure, title, describe(attention))


def _opacity(scores: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Where a layer does not look, the image shines through."""
    least, most = float(scores.min()), float(scores.max())
    opacity: npt.NDArray[np.float32] = 0.15 + 0.6 * (scores - least) / max(most - least, 1e-30)
    return opacity


def _short(names: list[str]) -> list[str]:
    """Dotted paths without the parts that all of them begin and end with."""
    paths = [name.split(".") for name in names]
    while min(map(len, paths)) > 1 and len({path[0] for path in paths}) == 1:
        paths = [path[1:] for path in paths]
    while min(map(len, paths)) > 1 and len({path[-1] for path in paths}) == 1:
        paths = [path[:-1] for path in paths]
    return [".".join(path) for path in paths]


def _third(place: float, low: str, high: str) -> str:
    return low if place < 1 / 3 else high if place > 2 / 3 else "in the middle"
