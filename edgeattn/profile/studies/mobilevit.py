"""The paper's Table 1 (arXiv 2206.02680): a whole network with different attentions, over its widths."""

from functools import partial
from typing import TYPE_CHECKING

from edgeattn.profile.studies import Group, Study, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn


WIDTHS = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
KINDS = ("separable", "linformer", "multi_head")
IMAGE_SIZE, QUICK_SIZE = 256, 128


class MobileVit(Study):
    model = "mobilevitv2"
    formats = ("onnx",)

    def groups(self, quick: bool, /) -> tuple[Group, ...]:
        """A group for each width; the quick study has only the smallest, on small images."""
        size = QUICK_SIZE if quick else IMAGE_SIZE
        return tuple(
            Group(
                f"width {width}",
                tuple(
                    # All are lowered as far as their attention allows; the rest of the network is the same in all.
                    Variant(
                        {"attention": kind, "width": str(width), "image_size": str(size)},
                        partial(_build, width, kind, size),
                        True,
                    )
                    for kind in KINDS
                ),
                runs=15 if quick else 40,
            )
            for width in (WIDTHS[:1] if quick else WIDTHS)
        )


STUDY: Study = MobileVit()


def _build(width: float, kind: str, image_size: int) -> "tuple[nn.Module, dict[str, Tensor]]":
    import torch

    from edgeattn.sample_models import mobilevitv2

    torch.manual_seed(0)
    module, inputs = mobilevitv2.build(width=width, image_size=image_size, attention=kind)
    return module, inputs
