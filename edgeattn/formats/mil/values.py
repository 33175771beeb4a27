"""Types and constants of ML programs, as NumPy sees them."""

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeattn.formats.mil.package import Weights

Constant = npt.NDArray[np.generic] | str


@dataclass(frozen=True)
class DType:
    """A scalar type: its bits in a file, and the NumPy type that holds one element (a byte for fewer than eight)."""

    name: str
    bits: int
    numpy: str


# By their names in the specification; ``fp16`` and so on are MIL's own, as in the op ``cast``.
DTYPES = {
    "BOOL": DType("bool", 8, "?"),
    "FLOAT16": DType("fp16", 16, "<f2"),
    "FLOAT32": DType("fp32", 32, "<f4"),
    "FLOAT64": DType("fp64", 64, "<f8"),
    **{f"INT{bits}": DType(f"int{bits}", bits, f"<i{max(bits // 8, 1)}") for bits in (4, 8, 16, 32, 64)},
    **{f"UINT{bits}": DType(f"uint{bits}", bits, f"<u{max(bits // 8, 1)}") for bits in (1, 2, 3, 4, 6, 8, 16, 32, 64)},
}


@dataclass(frozen=True)
class TensorType:
    """The type of a value, as its program declares it; a free axis is None."""

    dtype: DType
    shape: tuple[int | None, ...]


def tensor_type(value_type: Any) -> TensorType | None:
    """The type of a tensor or scalar; None for a string, a list, a state and the like."""
    from coremltools.proto import MIL_pb2

    if value_type.WhichOneof("type") != "tensorType":
        return None
    kind = value_type.tensorType
    dtype = DTYPES.get(MIL_pb2.DataType.Name(kind.dataType))
    if dtype is None:
        return None
    return TensorType(
        dtype, tuple(d.constant.size if d.WhichOneof("dimension") == "constant" else None for d in kind.dimensions)
    )


def constant(value: Any, weights: Weights) -> Constant:
    """The content of a ``Value``: an array, or a string.

    Raises:
        ValueError: the value has no known type, or another number of elements than it declares.
    """
    kind = tensor_type(value.type)
    if value.WhichOneof("value") == "blobFileValue":
        if kind is None:
            raise ValueError("a constant in its weight file has no known type")
        return from_bytes(weights.blob(value), kind)
    tensor = value.immediateValue.tensor
    field = tensor.WhichOneof("value")
    if field == "strings":
        return str(tensor.strings.values[0])
    if kind is None or field is None:
        raise ValueError("a constant of its program has no known type")
    content = getattr(tensor, field).values
    if isinstance(content, bytes):
        return from_bytes(np.frombuffer(bytearray(content), np.uint8), kind)
    array = np.array(content, kind.dtype.numpy)
    return _shaped(array, kind)


def from_bytes(data: npt.NDArray[np.uint8], kind: TensorType) -> npt.NDArray[np.generic]:
    """Elements from their packed bytes, without a copy where a byte or more holds one."""
    count = prod(n or 0 for n in kind.shape)
    if data.size != -(-count * kind.dtype.bits // 8):
        raise ValueError(f"a constant has {data.size} bytes, but its type needs another number")
    if kind.dtype.bits < 8:
        return _shaped(unpack(data, kind.dtype.bits, count, signed=kind.dtype.name.startswith("int")), kind)
    return _shaped(data.view(kind.dtype.numpy), kind)


def unpack(
    data: npt.NDArray[np.uint8], bits: int, count: int, *, signed: bool = False
) -> npt.NDArray[np.uint8 | np.int8]:
    """``count`` elements of fewer than eight bits each, packed from the least significant bit on."""
    fields = np.unpackbits(data, bitorder="little")[: count * bits].reshape(count, bits)
    unsigned = np.packbits(fields, axis=1, bitorder="little").reshape(count)
    if not signed:
        return unsigned
    # Two's complement in ``bits`` bits: shift the sign up to a byte's own, and back.
    return (unsigned << (8 - bits)).view(np.int8) >> (8 - bits)


def _shaped(array: npt.NDArray[Any], kind: TensorType) -> npt.NDArray[Any]:
    if array.size != prod(n or 0 for n in kind.shape):
        raise ValueError(f"a constant has {array.size} elements, but its type another number")
    return array.reshape([n or 0 for n in kind.shape])
