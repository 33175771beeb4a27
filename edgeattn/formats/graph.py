"""What a graph costs, counted and not timed: operators, layout ops, bytes moved, multiply-adds.

A *layout op* moves data and computes nothing. A *copy op* repeats, cuts or joins data and is counted separately.
Readers of a file format (edgeattn.formats) turn a file into :class:`Op` values; everything here is pure.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

LAYOUT_OPS = frozenset(
    {"transpose", "spacetodepth", "depthtospace", "pixelshuffle", "pixelunshuffle", "im2col", "col2im"}
    | {"spacetobatch", "batchtospace", "spacetobatchnd", "batchtospacend"}
)
# These move data only when their indices are constants; with computed indices they are part of the model.
INDEXED_OPS = frozenset(
    {"gather", "gathernd", "gatherelements", "gatheralongaxis"}
    | {"scatter", "scatternd", "scatterelements", "scatteralongaxis"}
)
COPY_OPS = frozenset(
    {"split", "splitv", "slice", "stridedslice", "slicebyindex", "slicebysize", "concat", "concatenation"}
    | {"tile", "expand", "broadcastto", "pad", "padv2", "mirrorpad", "pack", "unpack", "stack", "unstack"}
)
# onnxruntime's own ops into and out of its blocked layout on x86: not in the saved file, shown separately.
REORDER_OPS = frozenset(["reorderinput", "reorderoutput"])


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a graph; an axis of unknown or free length is None.

    Where both are set, the tensor holds steps, and a value is ``scale * (step - zero_point)``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    itemsize: int
    scale: float | None = None
    zero_point: int | None = None

    @property
    def size_bytes(self) -> int:
        """Bytes, a free axis counted as 1."""
        return self.itemsize * prod(1 if n is None else n for n in self.shape)


@dataclass(frozen=True)
class Op:
    """One operator of a graph, as its format names it. ``macs``, its multiply-adds, is None where an axis is free."""

    kind: str
    name: str
    inputs: tuple[TensorInfo, ...] = ()
    outputs: tuple[TensorInfo, ...] = ()
    macs: int | None = 0
    constant_indices: bool = False
    one_hot_kernel: bool = False

    @property
    def category(self) -> str:
        """``layout``, ``copy``, ``reorder`` or ``compute``."""
        kind = self.kind.lower().replace("_", "")
        if kind in LAYOUT_OPS or self.one_hot_kernel:
            return "layout"
        if kind in INDEXED_OPS and self.constant_indices and not self._reads_a_shape:
            return "layout"
        if kind in COPY_OPS:
            return "copy"
        return "reorder" if kind in REORDER_OPS else "compute"

    @property
    def _reads_a_shape(self) -> bool:
        """Index arithmetic on a list of dimensions moves no activation."""
        return bool(self.inputs) and "int" in self.inputs[0].dtype and len(self.inputs[0].shape) <= 1

    @property
    def moved_bytes(self) -> int:
        """Bytes written by an op that only moves data."""
        return 0 if self.category == "compute" else sum(t.size_bytes for t in self.outputs)


@dataclass(frozen=True)
class Graph:
    """The operators, inputs, outputs and number of parameters of a file."""

    format: str
    ops: tuple[Op, ...]
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    parameters: int
    details: dict[str, object]


def count(ops: Iterable[Op]) -> dict[str, int]:
    """Operators by kind, the most frequent first, ties by name."""
    counts = Counter(op.kind for op in ops)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def in_category(ops: Iterable[Op], category: str) -> tuple[Op, ...]:
    return tuple(op for op in ops if op.category == category)


def is_one_hot(kernel: npt.NDArray[np.generic], *, output_axis: int = 0) -> bool:
    """Whether every output channel of a convolution only copies one of its inputs."""
    if not kernel.size:
        return False
    rows = np.moveaxis(kernel, output_axis, 0).reshape(kernel.shape[output_axis], -1)
    return bool((np.count_nonzero(rows, axis=1) == 1).all() and (rows[rows != 0] == 1).all())


def is_one_hot_transposed(kernel: npt.NDArray[np.generic], *, input_axis: int) -> bool:
    """Whether a transposed convolution, whose stride is its kernel's size, copies every input channel to one
    output element, and no two to the same."""
    sources = np.count_nonzero(kernel, axis=input_axis)
    return is_one_hot(kernel, output_axis=input_axis) and bool((sources <= 1).all())


def conv_macs(output_shape: tuple[int | None, ...], filter_shape: tuple[int | None, ...]) -> int | None:
    """Multiply-adds of a convolution; ``filter_shape`` is the kernel of one output channel. None if an axis is free."""
    return _product((*output_shape, *filter_shape))


def matmul_macs(output_shape: tuple[int | None, ...], inner: int | None) -> int | None:
    """Multiply-adds of a matrix product over an inner axis of that length; None if an axis is free."""
    return _product((*output_shape, inner))


def einsum_macs(equation: str, shapes: list[tuple[int | None, ...]]) -> int | None:
    """Multiply-adds of an einsum: the product of the lengths of all its letters; None if one is free."""
    terms = equation.replace(" ", "").split("->")[0].split(",")
    lengths: dict[str, int | None] = {}
    for term, shape in zip(terms, shapes, strict=False):
        for letter, n in zip(term, shape, strict=False):
            known = lengths.get(letter)
            lengths[letter] = known if n is None else max(n, known or 0)
    return _product(lengths.values())


def _product(lengths: Iterable[int | None]) -> int | None:
    known = list(lengths)
    return None if None in known else prod(n for n in known if n is not None)
