"""How a model's input is made from a picture: its size, its channels, the range of its values.

What most wrong answers of apps come from: so each field has one meaning, and a key that is no field is refused.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field

from edgeattn.errors import BadInputError
from edgeattn.system.foreign import sentence
from edgeattn.system.vendor_errors import first_line

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"]
Channels = Literal["RGB", "BGR", "grey"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[int, Field(ge=1, le=65_536)]


def _pair(value: Any) -> Any:
    return (value, value) if isinstance(value, int) else value


def _one_grey(value: Any) -> Any:
    return "grey" if value == "grey, three times" else value  # of bundles of schema 5 and older


@dataclass(frozen=True)
class Preprocessing:
    """An input of the model is ``(scale * pixel - mean) / std``, a pixel from 0 to ``largest_pixel``.

    First the picture is resized: its shortest edge to ``resize_shortest_edge`` (None: as little as the crop allows),
    the other in proportion, rounded down; or, where ``crop`` is "none" or ``keep_aspect_ratio`` False, both to the
    input's own size. Then its middle is cut out; where that lies between two pixels, ``crop_rounding`` says how:
    torchvision's (timm, CVNets) or down (transformers).

    Args:
        image_size: height and width of the input; an export puts there what the model's own input has.
        interpolation: of the resize, by Pillow, which smooths where it makes a picture smaller.
        channels: RGB; BGR; grey: the mean of the three, in each channel that the model has.
        mean, std: one for each channel, in the order in which the model takes them.
        source: the library whose checkpoint wants it so.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    image_size: Annotated[tuple[Size, Size], BeforeValidator(_pair)] | None = None
    resize_shortest_edge: Size | None = None
    keep_aspect_ratio: bool = True
    interpolation: Interpolation = "bilinear"
    crop: Literal["center", "none"] = "center"
    crop_rounding: Literal["half to even", "down"] = "half to even"
    channels: Annotated[Channels, BeforeValidator(_one_grey)] = "RGB"
    largest_pixel: Positive = 255.0
    scale: Positive = 1 / 255
    mean: Annotated[tuple[Finite, ...], Field(min_length=1, max_length=3)] = (0.0, 0.0, 0.0)
    std: Annotated[tuple[Positive, ...], Field(min_length=1, max_length=3)] = (1.0, 1.0, 1.0)
    source: str = ""

    @property
    def limits(self) -> tuple[float, float]:
        """The smallest and the largest value that every channel can have."""
        low = [(0 - m) / s for m, s in self._of_channels()]
        high = [(self.largest_pixel * self.scale - m) / s for m, s in self._of_channels()]
        return max(low), min(high)

    def affine(self, channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """(shift, factor) of each of the model's channels: its value is ``factor * (byte - shift)``, of a byte from 0
        to 255.

        Raises:
            BadInputError: mean or std are for another number of channels.
        """
        if not {len(self.mean), len(self.std)} <= {1, channels}:
            raise BadInputError(
                f"the preprocessing has {max(len(self.mean), len(self.std))} numbers as mean or std, and the model "
                f"takes {channels} channel{'s' * (channels != 1)}"
            )
        scale = self.scale * self.largest_pixel / 255
        mean, std = (values * channels if len(values) == 1 else values for values in (self.mean, self.std))
        return tuple(m / scale for m in mean), tuple(scale / s for s in std)

    def _of_channels(self) -> list[tuple[float, float]]:
        number = max(len(self.mean), len(self.std))
        return list(zip(*(v * number if len(v) == 1 else v for v in (self.mean, self.std)), strict=True))


def read(values: Mapping[str, Any], owner: str) -> Preprocessing:
    """The preprocessing that a dictionary gives.

    Args:
        owner: whose it is, for the error.

    Raises:
        BadInputError: a key is no field, or a value is not of its kind.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(Preprocessing).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        if first["type"] == "unexpected_keyword_argument":
            known = ", ".join(Preprocessing.__dataclass_fields__)
            raise BadInputError(f"the preprocessing of {owner} has no {sentence(field)!r}; it takes {known}") from error
        raise BadInputError(f"the preprocessing of {owner}: {sentence(field)}: {sentence(first['msg'])}") from error
    except (TypeError, ValueError) as error:
        raise BadInputError(f"the preprocessing of {owner} must be a dictionary of {_FIELDS}") from error


def load(file: Path) -> Preprocessing:
    """The preprocessing in a JSON file.

    Raises:
        BadInputError: it cannot be read, or is no preprocessing.
    """
    import json

    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInputError(f"{file} cannot be read as JSON: {first_line(error)}") from error
    if not isinstance(values, dict):
        raise BadInputError(f"{file} must hold a dictionary of {_FIELDS}")
    return read(values, str(file))


def document(preprocessing: Preprocessing) -> dict[str, Any]:
    """As the manifest holds it, without what is unknown: plain numbers, texts and lists."""
    values = {key: value for key, value in asdict(preprocessing).items() if value not in (None, "")}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


_FIELDS = ", ".join(Preprocessing.__dataclass_fields__)
