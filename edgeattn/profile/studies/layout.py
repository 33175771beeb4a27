"""The cost of the layout: the same attention in four forms, which differ in the position of the channel axis."""

from functools import partial
from typing import TYPE_CHECKING

from edgeattn.profile.studies import Group, Study, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn


# (channels, pixels of a patch, patches). The first three are those of MobileViTv2-1.0 at 256.
SHAPES = ((128, 4, 256), (192, 4, 64), (256, 4, 16), (128, 1, 4096), (512, 1, 256))
# edgeattn/report/studies/layout.py describes the forms.
FORMS = ("reference", "channels_last_linear", "folded", "deployed")


class Layout(Study):
    model = "attention"
    formats = ("onnx", "tflite", "executorch")

    def groups(self, quick: bool, /) -> tuple[Group, ...]:
        """A group for each shape; the quick study has only the smallest shape of the model."""
        return tuple(
            Group(
                "x".join(map(str, shape)),
                tuple(
                    Variant(
                        {"shape": ", ".join(map(str, shape)), "form": form},
                        partial(_build, form, shape),
                        form == "deployed",
                    )
                    for form in FORMS
                ),
                runs=40 if quick else 200,
            )
            for shape in (SHAPES[2:3] if quick else SHAPES)
        )


STUDY: Study = Layout()


def _build(form: str, shape: tuple[int, int, int]) -> "tuple[nn.Module, dict[str, Tensor]]":
    import torch

    from edgeattn.attention import LinearSelfAttention
    from edgeattn.sample_models import _attentions

    torch.manual_seed(0)
    channels, pixels, patches = shape
    x = torch.randn(1, channels, pixels, patches)
    layer = LinearSelfAttention(channels).eval()
    # All forms are the same function.
    builders = {
        "channels_last_linear": _attentions.ChannelsLastLinearAttention.like,
        "folded": _attentions.FoldedAttention.like,
    }
    module: nn.Module = builders[form](layer) if form in builders else layer
    return module, {"x": x}
