"""The mistakes that apps and converters make with pictures, as damage to the first kernel of a file that takes one."""

from collections.abc import Sequence

import numpy as np

from edgeattn.parity.mutation import Mutant, Weight, same

EXCHANGED = "red and blue exchanged"
# A factor of the pixels -> the mistake that it is.
RANGES = {
    255.0: "pixels not divided by 255",
    1 / 255: "pixels divided by 255 twice",
    2.0: "pixels in a range twice as wide",
}


def mutants(weights: Sequence[Weight], *, channels: int, axis: int) -> tuple[Mutant, ...]:
    """The mutants of a file whose picture has so many channels.

    Args:
        weights: of the file, in the order of the graph.
        axis: of the input channels in a kernel of its format.
    """
    first = next((w for w in weights if w.role == "weight" and w.value.shape[axis] == channels), None)
    if first is None:
        return ()
    changed = {name: np.asarray(first.value * factor, first.value.dtype) for factor, name in RANGES.items()}
    if channels == 3:
        changed[EXCHANGED] = np.ascontiguousarray(np.flip(first.value, axis))
    return tuple(
        Mutant(name, first.name, unchanged="the two have the same weights")
        if same(value, first.value)
        else Mutant(name, first.name, {first.name: value})
        for name, value in changed.items()
    )
