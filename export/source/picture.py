"""From the picture to the answer: a model that takes the bytes of a picture, and gives probabilities or the best five.

It is a module around the user's, so that all that is proved of a model is proved of it from the pixel on; the lowering
folds its factors into the first convolution where that is exact.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from edgeattn.bundle import pictures
from edgeattn.bundle.manifest import Answer
from edgeattn.bundle.preprocessing import Preprocessing
from edgeattn.errors import BadInputError
from edgeattn.export.source.adapter import InOrder
from edgeattn.export.source.given import Evaluation, Source
from edgeattn.export.source.outputs import flat, run

BEST = 5
# The name of the second output of the best five.
CLASSES = "classes"
_LARGEST_FILE = 2**24


@dataclass(frozen=True)
class Resize:
    """How a picture of one size becomes one of another: resized to ``size``, and cut out of it from ``corner`` on; each
    is (height, width)."""

    size: tuple[int, int]
    corner: tuple[int, int]
    result: tuple[int, int]

    def __call__(self, x: Tensor) -> Tensor:
        """[1, C, H, W] resized bilinearly, without smoothing, which no runtime of all formats has."""
        x = nn.functional.interpolate(x, size=self.size, mode="bilinear", align_corners=False)
        if self.size == self.result:
            return x
        (top, left), (height, width) = self.corner, self.result
        return x[:, :, top : top + height, left : left + width]


class Pictured(InOrder):
    """``model`` behind the normalisation of a picture [1, C, H, W] of bytes, in RGB or grey, and behind its resize."""

    matrix: Tensor | None
    factor: Tensor
    shift: Tensor | None

    def __init__(
        self, model: nn.Module, preprocessing: Preprocessing, channels: int, resize: Resize | None = None
    ) -> None:
        super().__init__(model)
        self.resize = resize
        shift, factor = (torch.tensor(v, dtype=torch.float64) for v in preprocessing.affine(channels))
        order = torch.arange(channels)
        if preprocessing.channels == "BGR":
            order = order.flip(0)
        # A matrix where it exchanges channels, which goes into the kernel that reads it; else a factor, which does too.
        matrix = torch.diag(factor)[:, order].reshape(channels, channels, 1, 1)
        self.register_buffer("matrix", matrix.float() if preprocessing.channels == "BGR" else None)
        self.register_buffer("factor", factor.reshape(1, -1, 1, 1).float())
        self.register_buffer("shift", shift[order].reshape(1, -1, 1, 1).float() if shift.any() else None)

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The model's outputs."""
        (picture,) = inputs
        x = picture.to(self.factor.dtype)
        if self.resize is not None:
            x = self.resize(x)
        if self.shift is not None:  # before the factor: what is padded with zeros behind it stays zero
            x = x - self.shift
        x = x * self.factor if self.matrix is None else nn.functional.conv2d(x, self.matrix)
        result: Tensor | tuple[Tensor, ...] = self.model(x)
        return result


class Answering(InOrder):
    """``model`` whose first output, logits [1, classes], becomes ``answer``."""

    def __init__(self, model: nn.Module, answer: Answer) -> None:
        super().__init__(model)
        self.answer = answer

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """The model's outputs; of the best five a second one, their classes."""
        logits, *rest = flat(self.model(*inputs))
        answer = logits.softmax(1)
        if self.answer == "top5":
            best, classes = answer.topk(min(BEST, answer.shape[1]), 1)
            return best, classes, *rest
        return (answer, *rest) if rest else answer


def finished(
    source: Source,
    *,
    picture: bool,
    labels: tuple[str, ...],
    answer: Answer,
    resize: tuple[int, int] | None = None,
) -> Source:
    """``source`` that takes a picture, of the size ``resize`` (height, width) where that is given, has labels, and
    gives an answer.

    Raises:
        BadInputError: it takes no picture, or its normalisation is not known; or it gives no logits, or has another
            number of classes.
    """
    if picture:
        source = _pictured(source, resize)
    first, logits = next(iter(source.outputs.items()))
    if (labels or answer != "values") and (logits.dim() not in (2, 4) or not logits.is_floating_point()):
        raise BadInputError(
            f"the first output {first} is {list(logits.shape)}, and no logits [1, classes]: it has no labels, and no "
            "probabilities"
        )
    if labels and len(labels) != logits.shape[1]:
        raise BadInputError(f"--labels names {len(labels)} classes, and the model gives {logits.shape[1]}")
    source = replace(source, labels=labels)
    return source if answer == "values" else _answering(source, answer)


def _pictured(source: Source, resize: tuple[int, int] | None) -> Source:
    if len(source.inputs) != 1:
        raise BadInputError(f"the model takes {len(source.inputs)} inputs, and not one picture [1, 3, H, W]")
    ((name, example),) = source.inputs.items()
    _, channels, *_ = pictures.check(tuple(example.shape))
    told = source.preprocessing
    if told is None:
        raise BadInputError(
            "nothing says how the model's input is made from pixels: give --preprocessing FILE.json, or give it in the "
            "factory's dict"
        )
    if not example.is_floating_point():
        raise BadInputError(f"the input {name} is {str(example.dtype).removeprefix('torch.')} already")

    own, wanted = (example.shape[2], example.shape[3]), told

    def in_bytes(x: Tensor) -> Tensor:
        picture = torch.from_numpy(pictures.to_bytes(x.detach().numpy(), wanted))
        if resize is None:
            return picture
        return nn.functional.interpolate(picture.float(), size=resize, mode="nearest").to(torch.uint8)

    inside = None if resize is None else Resize(*pictures.resized_to(resize, told, own), own)
    module = Pictured(source.module, told, channels, inside).eval()
    if resize is not None:
        told = replace(told, image_size=resize, resize_shortest_edge=None)
    inputs = {name: in_bytes(example)}
    evaluation = source.evaluation
    return replace(
        source,
        module=module,
        inputs=inputs,
        outputs=dict(zip(source.outputs, run(module, inputs), strict=True)),
        evaluation=evaluation and Evaluation(in_bytes(evaluation.inputs), evaluation.labels),
        calibration=None if source.calibration is None else in_bytes(source.calibration),
        cases={case: {name: in_bytes(x[name])} for case, x in source.cases.items()},
        picture=name,
        preprocessing=told,
    )


def _answering(source: Source, answer: Answer) -> Source:
    first, logits = next(iter(source.outputs.items()))
    if logits.dim() != 2:
        raise BadInputError(f"the first output {first} is {list(logits.shape)}: only [1, classes] has probabilities")
    names = list(source.outputs)
    if answer == "top5":
        if CLASSES in (*names, *source.inputs):
            raise BadInputError(f"the model has an input or output {CLASSES} already")
        names.insert(1, CLASSES)
    module = Answering(source.module, answer).eval()
    outputs = dict(zip(names, run(module, source.inputs), strict=True))
    return replace(source, module=module, outputs=outputs, answer=answer)


def read_labels(file: Path) -> tuple[str, ...]:
    """The names of the classes in a text file, one a line, in their order.

    Raises:
        BadInputError: it cannot be read, is no text, or is empty.
    """
    try:
        if file.stat().st_size > _LARGEST_FILE:
            raise BadInputError(f"{file} is too large for a file of labels")
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise BadInputError(f"{file} cannot be read as labels, one a line: {error}") from error
    while lines and not lines[-1].strip():
        lines.pop()
    labels = tuple(line.strip() for line in lines)
    if not labels or not all(labels):
        raise BadInputError(f"{file} must hold the names of the classes, one a line, none of them empty")
    return labels
