"""TFLite's own metadata: what its readers (MediaPipe Tasks, Android Studio, ML Binding) know of a model's picture and
labels.

A flatbuffer of the schema ``metadata_schema.fbs`` (github.com/google-ai-edge/mediapipe, mediapipe/tasks/metadata) in
the model's buffer ``TFLITE_METADATA``, and the labels as a text file in a zip behind the model. It is built field by
field, because the only package with a generated writer brings OpenCV and half a gigabyte.
"""

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from edgeattn.bundle.preprocessing import Preprocessing

NAME, IDENTIFIER, LABELS_FILE = "TFLITE_METADATA", b"M001", "labels.txt"
# The oldest reader that knows all fields below.
_MIN_PARSER = "1.0.0"
# Enumerations of the schema.
_RGB, _GREY, _IMAGE_PROPERTIES, _NORMALISATION, _TENSOR_AXIS_LABELS = 1, 2, 2, 1, 2


@dataclass(frozen=True)
class About:
    """What is to be said of a file.

    Args:
        inputs, outputs: the names of its tensors, in the order of its graph.
        channels: of the picture that its only input takes; 0 if it takes none.
        preprocessing: of the picture, as far as it is not inside.
        labelled: the number of the output that has ``labels``.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    channels: int = 0
    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    labelled: int = 0


def buffer(about: About) -> bytes:
    """The flatbuffer."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    image = _image(builder, about) if about.channels else None
    inputs = [_table(builder, 7, {0: builder.CreateString(name), **(image or {})}) for name in about.inputs]
    outputs = []
    for number, name in enumerate(about.outputs):
        fields = {0: builder.CreateString(name)}
        if about.labels and number == about.labelled:
            file = _table(builder, 5, {0: builder.CreateString(LABELS_FILE)}, {2: _TENSOR_AXIS_LABELS})
            fields[6] = _vector(builder, [file])
        outputs.append(_table(builder, 7, fields))
    graph = _table(builder, 9, {2: _vector(builder, inputs), 3: _vector(builder, outputs)})
    root = _table(builder, 8, {3: _vector(builder, [graph]), 7: builder.CreateString(_MIN_PARSER)})
    builder.Finish(root, file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def with_labels(content: bytes, labels: Sequence[str]) -> bytes:
    """A model's file with its labels behind it, as a zip whose places are counted from the beginning of the file."""
    file = io.BytesIO(content)
    file.seek(0, io.SEEK_END)
    with zipfile.ZipFile(file, "a") as archive:
        # The same bytes each time, and not packed: readers map it into memory.
        archive.writestr(zipfile.ZipInfo(LABELS_FILE, (1980, 1, 1, 0, 0, 0)), "\n".join(labels) + "\n")
    return file.getvalue()


def _image(builder: Any, about: About) -> dict[int, int]:
    """The fields ``content`` and ``process_units`` of an input that takes a picture."""
    properties = _table(builder, 2, {}, {0: _RGB if about.channels == 3 else _GREY})
    fields = {3: _table(builder, 3, {1: properties}, {0: _IMAGE_PROPERTIES})}
    shift, factor = about.preprocessing.affine(about.channels) if about.preprocessing else ((0.0,), (1.0,))
    # (pixel - mean) / std of bytes. One number for all channels where it is one: MediaPipe reads no other.
    mean, std = (sorted(set(v)) if len(set(v)) == 1 else v for v in (shift, [1 / f for f in factor]))
    options = _table(builder, 2, {0: _floats(builder, mean), 1: _floats(builder, std)})
    fields[4] = _vector(builder, [_table(builder, 2, {1: options}, {0: _NORMALISATION})])
    return fields


def _table(builder: Any, slots: int, offsets: dict[int, int], numbers: dict[int, int] | None = None) -> int:
    """A table with so many slots, of which some hold offsets, and some bytes."""
    builder.StartObject(slots)
    for slot, offset in offsets.items():
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    for slot, number in (numbers or {}).items():
        builder.PrependInt8Slot(slot, number, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _floats(builder: Any, values: Sequence[float]) -> int:
    builder.StartVector(4, len(values), 4)
    for value in reversed(values):
        builder.PrependFloat32(value)
    return int(builder.EndVector())
