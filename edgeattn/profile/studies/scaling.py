"""The paper's first figure (arXiv 2206.02680): time against the number of tokens, for three attentions."""

from functools import partial
from typing import TYPE_CHECKING

from edgeattn.profile.studies import Group, Study, Variant

if TYPE_CHECKING:
    from torch import Tensor, nn


CHANNELS = 512
TOKENS = (256, 512, 1024, 2048, 4096, 8192, 16384)
# The others would need gigabytes for their scores or projections.
SEPARABLE_ONLY = (32768, 65536)
QUICK = (256, 512, 1024)
KINDS = ("separable", "multi_head", "linformer")


class Scaling(Study):
    model = "attention"
    formats = ("onnx",)

    def groups(self, quick: bool, /) -> tuple[Group, ...]:
        """A group for each number of tokens."""
        return tuple(
            Group(
                f"{tokens} tokens",
                tuple(
                    # Only separable attention has a lowered form.
                    Variant(
                        {"attention": kind, "tokens": str(tokens)}, partial(_build, kind, tokens), kind == "separable"
                    )
                    for kind in (KINDS if tokens <= TOKENS[-1] else KINDS[:1])
                ),
                # A run of the longest takes seconds.
                runs=30 if tokens <= 2048 else 10 if tokens <= 4096 or tokens > TOKENS[-1] else 3,
                warmup=None if tokens <= 2048 else 1,
            )
            for tokens in (QUICK if quick else (*TOKENS, *SEPARABLE_ONLY))
        )


STUDY: Study = Scaling()


def _build(kind: str, tokens: int) -> "tuple[nn.Module, dict[str, Tensor]]":
    import torch

    from edgeattn.sample_models import _attentions

    torch.manual_seed(0)
    return _attentions.build(kind, CHANNELS, tokens).eval(), {"x": torch.randn(1, CHANNELS, 1, tokens)}
