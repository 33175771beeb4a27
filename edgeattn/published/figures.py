"""What papers and guides say of MobileViTv2 and its predecessor, from ``figures.json``.

Only times that were read in the text of their source are in the file. The paper has its times "following" that of
MobileViT, which converts full-precision models to Core ML.
"""

import json
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

from edgeattn.errors import BadInputError


@dataclass(frozen=True)
class Published:
    """One published latency, in ms for one input. ``precision`` and ``date`` are "" where the source tells none.

    Raises:
        BadInputError: it is no time, or has no source or no address.
    """

    model: str
    runtime: str
    precision: str
    device: str
    milliseconds: float
    source: str
    date: str
    url: str

    def __post_init__(self) -> None:
        if not (isfinite(self.milliseconds) and self.milliseconds > 0):
            raise BadInputError(f"a published time of {self.model} must be above 0 ms, not {self.milliseconds}")
        if not self.source or not self.url.startswith("https://"):
            raise BadInputError(f"a published time of {self.model} needs a source, and its address")


def figures() -> tuple[Published, ...]:
    """All of them, in the order of the file."""
    rows = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))
    return tuple(Published(**row) for row in rows)
