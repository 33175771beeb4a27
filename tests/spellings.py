"""One function in many spellings: separable self-attention, alone and in a small network; and what only looks like it.

A spelling is a choice for each of its fields. All choices of ``CHOICES`` are the paper's layer, and a lowering that
goes by what is computed finds it in each of them; ``MISSES`` are single choices that make it another function.
"""

import random
from dataclasses import dataclass, fields, replace

import torch
from hypothesis import strategies as st
from spelled_network import Layers, Network, bare
from torch import Tensor, nn

DIM = 8
# Layout ops that an equivalent spelling has left when it is lowered.
LAYOUT_OPS = 0


@dataclass(frozen=True)
class Spelling:
    """``patches`` is "none" for the attention alone, on [1, C, P, N]; the last four fields are for near misses."""

    patches: str = "none"
    projection: str = "conv"
    cut: str = "split"
    softmax: str = "method"
    scale: str = "none"
    key: str = "before"
    weigh: str = "product"
    spread: str = "broadcast"
    relu: str = "F"
    bias: bool = True
    score_bias: bool = False
    dropout: bool = False
    heads: int = 1
    cross: str = "no"
    dress: str = "plain"
    layer_scale: bool = False
    tied: bool = False
    sharing: str = "once"
    wrapper: str = "none"
    norm: str = "group"
    residual: bool = True
    pixels: int = 4
    reduce: str = "sum"
    mask: bool = False
    positions: bool = False
    other_order: bool = False

    @property
    def tolerance(self) -> float:
        """Largest relative error of the lowered module, all in float64; a softmax in float32 has its own noise."""
        return 1e-5 if self.softmax in ("float", "dtype") else 1e-10

    def __str__(self) -> str:
        """What differs from the usual."""
        usual = Spelling()
        said = {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != getattr(usual, f.name)}
        return ", ".join(f"{name} {value}" for name, value in said.items()) or "as usual"


# What stands there more than once is drawn more often.
CHOICES: dict[str, tuple[object, ...]] = {
    "patches": ("none", "none", "unfold", "reshape", "shuffle", "one-hot", "gather", "slices"),
    "projection": ("conv", "conv", "functional", "einsum", "matmul", "linear", "last linear", "last matmul"),
    "cut": ("split", "separate", "separate", "tensor_split", "narrow", "chunk", "index_select", "slices"),
    "softmax": (
        *("method", "negative axis", "F", "module", "exp", "stable exp", "log", "logsumexp", "float", "dtype"),
    ),
    "scale": ("none", "query", "temperature"),
    "key": ("before", "after"),
    "weigh": ("product", "einsum", "matmul"),
    "spread": ("broadcast", "expand_as", "expand"),
    "relu": ("F", "module", "clamp", "maximum", "where"),
    "bias": (True, False),
    "score_bias": (False, True),
    "dropout": (False, True),
    "heads": (1, 1, 1, 2, DIM),
    "cross": ("no", "no", "no", "place", "keyword"),
    "dress": (
        *("plain", "plain", "plain", "weight_norm", "old weight_norm", "spectral_norm", "pruned", "lora", "hook"),
    ),
    "layer_scale": (False, True),
    "tied": (False, True),
    "sharing": ("once", "once", "twice", "aliased", "loop", "siamese"),
    "wrapper": (*("none",) * 8, "DataParallel", "compiled"),
    "norm": ("group", "written out", "var_mean", "layer"),
    "residual": (True, False),
    "pixels": (4, 1),
}
MISSES: tuple[tuple[str, object], ...] = (
    *(("softmax", wrong) for wrong in ("other axis", "both axes", "sigmoid", "epsilon")),
    *(("relu", wrong) for wrong in ("none", "gelu", "leaky")),
    *(("reduce", wrong) for wrong in ("mean", "max")),
    *(("norm", wrong) for wrong in ("over channels", "two groups")),
    *((name, True) for name in ("mask", "positions", "other_order")),
)
# Of the network around the attention, so that there has to be one.
_OF_NETWORK = ("norm", "other_order")


def spellings() -> st.SearchStrategy[Spelling]:
    """All that is the paper's layer."""
    return st.builds(Spelling, **{name: st.sampled_from(values) for name, values in CHOICES.items()})  # type: ignore[arg-type]


def near_misses() -> st.SearchStrategy[Spelling]:
    """The same with one thing wrong."""
    return st.builds(missed, spellings(), st.sampled_from(MISSES))


def missed(spelling: Spelling, miss: tuple[str, object]) -> Spelling:
    """``spelling`` with one thing wrong."""
    name, wrong = miss
    if name in _OF_NETWORK and spelling.patches == "none":
        spelling = replace(spelling, patches="unfold")
    if spelling.patches == "none" and spelling.pixels == 1 and name == "softmax":
        spelling = replace(spelling, pixels=4)
    return replace(spelling, **{name: wrong})  # type: ignore[arg-type]


def drawn(number: int, *, near_miss: bool = False) -> Spelling:
    """The spelling of a number, always the same one."""
    chance = random.Random(number)
    spelling = Spelling(**{name: chance.choice(values) for name, values in CHOICES.items()})  # type: ignore[arg-type]
    return missed(spelling, chance.choice(MISSES)) if near_miss else spelling


def build(spelling: Spelling, seed: int) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The module in evaluation mode, in float32, with random weights; and its example inputs."""
    # Nothing is compiled here: compiling takes seconds, and computes the same.
    with torch.random.fork_rng(devices=[]), torch.compiler.set_stance("force_eager"):
        torch.manual_seed(seed)
        if spelling.patches == "none":
            keyword = spelling.cross == "keyword"
            module: nn.Module = Layers(spelling.sharing, lambda: bare(spelling, DIM), keyword=keyword)
            inputs = [torch.randn(1, DIM, spelling.pixels, 6)]
            if spelling.cross != "no":
                inputs.append(torch.randn(1, DIM, spelling.pixels, 6))
        else:
            module = Network(spelling, DIM, lambda: bare(spelling, DIM))
            inputs = [torch.randn(1, 3, 8, 12)]
            with torch.no_grad():  # the BatchNorms take some statistics
                for part in module.modules():
                    part.train(isinstance(part, nn.BatchNorm2d))
                module(torch.randn(4, 3, 8, 12))
        return module.eval(), tuple(inputs)
