"""Modules as users write them, drawn as files: inputs, bodies and outputs of all kinds, sound and unsound ones."""

import random
import tempfile
import warnings
import zlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

SHAPES = (*((1, 3, 8, 8),) * 6, (2, 4, 6, 6), (1, 5, 8), (2, 7), (6,), (), (1, 1), (1, 0, 3), (1, 4, 2, 3, 2))
TYPES = ("float32",) * 24 + ("float64", "float16", "bfloat16", "int64", "int32", "uint8", "bool", "complex64")
NAMES = ("x", "image", "y", "mask", "input_1", "args", "self_", "é", "conv")
LYING = ("{}",) * 40 + (
    "{}.permute(*range({}.dim())[::-1])", "{}.unsqueeze(-1).expand(*{}.shape, 2)", "{}[..., ::2]",
    "torch.nn.Parameter({}.float())", "{}.to('meta')", "{} * float('nan')", "{}.to_sparse()",
)  # fmt: skip
PARTS = {
    "conv": "nn.LazyConv2d(4, 3, padding=1)", "linear": "nn.LazyLinear(6)", "norm": "nn.LazyBatchNorm2d()",
    "group": "nn.GroupNorm(1, 4)", "drop": "nn.Dropout(0.5)", "gru": "nn.GRU(8, 5, batch_first=True)",
    "embed": "nn.Embedding(10, 4)", "shared": "self.linear", "attention": "LinearSelfAttention(4)",
}  # fmt: skip
# Lazy layers get their sizes in a first run; a module that fails in it is refused for that.
SIZES = """    with torch.no_grad():
        net(**{{name: x.clone() for name, x in {keyed}.items()}})"""
# Each keeps `h` a tensor; `v` is the first input.
STEPS = (
    "h = h.relu()", "h = h.sigmoid() * 2 + 1", "h = torch.tanh(h) / 3", "h = h - h.mean()", "h = h.softmax(-1)",
    "h = h.flatten(1)", "h = h.transpose(-1, -2)", "h = h.reshape(-1)", "h = h.sum(-1)", "h = h.amax(-1, keepdim=True)",
    "h = h.topk(2, -1)[0]", "h = h.sort(-1)[0]", "h = h.cumsum(-1)", "h = h[..., ::2]", "h = h[..., 1:]",
    "h = torch.cat([h, h * 2], -1)", "h = torch.stack([h, h + 1])", "h = F.pad(h, (1, 0))",
    "h = F.pad(h, (0, 1), value=1.0)",
    "h = h.unsqueeze(0)", "h = h.squeeze()", "h = h.expand(2, *h.shape)", "h = h @ h.mT", "h = h.clamp(-1, 1)",
    "h = torch.where(h > 0, h, h.exp())", "h = h.masked_fill(h < 0, 0.5)", "h = h.round()", "h = h // 2", "h = h % 3",
    "h = torch.einsum('...i,...j->...ij', h, h)", "h = h.logsumexp(-1)", "h = h.std(-1)", "h = h.norm()",
    "h = F.normalize(h, dim=1)", "h = F.interpolate(h, scale_factor=2)",
    "h = F.interpolate(h, size=(5, 5), mode='bilinear')",
    "h = F.adaptive_avg_pool2d(h, 1)", "h = F.max_pool2d(h, 2)", "h = F.pixel_shuffle(h, 2)",
    "h = F.unfold(h, 2, stride=2)",
    "h = self.conv(h)", "h = self.linear(h)", "h = self.norm(self.conv(h))", "h = self.group(self.conv(h))",
    "h = self.attention(self.conv(h))", "h = self.shared(self.linear(h))", "h = self.gru(h)[0]", "h = self.drop(h)",
    "h = self.embed(h.long() % 10)", "h = F.scaled_dot_product_attention(h, h, h)", "h = h.to(torch.float32)",
    "h = h.half().float()", "h = h.double()", "h = h.long()", "h = h > 0", "h = h.float() * self.number",
    "h = h + self.table[: h.shape[-1]]", "h = h.flip(-1)", "h = h.roll(1, -1)", "h = h.repeat(2, *[1] * (h.dim() - 1))",
    "h = h.chunk(2, -1)[0]", "h = h[[0]]", "h = h.index_select(0, torch.tensor([0]))", "h = h.argmax(-1)",
    "h = torch.linspace(0, 1, h.numel()).reshape(h.shape) + h", "h = h.new_zeros(h.shape) + h", "h = h.abs().sqrt()",
)  # fmt: skip
UNSOUND = (
    "h = F.dropout(h)", "h = h + torch.randn_like(h)", "v.add_(1)", "h += 1",
    "self.seen = getattr(self, 'seen', 0) + 1; h = h * self.seen",
    "self.number += 1", "h = h * time.time()", "h = h if h.sum() > 0 else -h", "h = h[h > 0]", "h = h.nonzero()",
    "h = torch.from_numpy(h.numpy() + 1)", "h = torch.tensor(h.tolist())", "h = h * h.sum().item()",
    "raise ValueError('no\\nway')",
    "raise SystemExit(0)", "assert h.sum() == 12345", "print('\\x1b[2J hello')",
    "h = h / 0", "h = h.log()",
    "h = h * 1e30 * 1e30", "self.conv = None", "h = h.detach().requires_grad_()", "h = [h][0].data", "self.train()",
    "h = self.nothing(h)", "import json; h = h + len(json.dumps({}))", "warnings.warn('\\x1b[31mred')",
    "sys.stdout.write('out')",
)  # fmt: skip
OUTPUTS = ("h",) * 20 + (
    "(h, h)", "(h, v)", "{'a': h, 'b/c': h * 2}", "{'y': h, 'x': h}", "[h, [h + 1, None]]", "(h, 8)", "None", "()",
    "'text'",
    "Answer(h, None)", "(h, h.argmax(-1))", "(h, h > 0)", "iter([h])", "{1: h}", "(self.number, h)", "h.sum()",
    "h[..., :0]",
)  # fmt: skip
FILE = """import sys, time, warnings
from typing import NamedTuple
import torch
import torch.nn.functional as F
from torch import nn
from edgeattn import LinearSelfAttention


class Answer(NamedTuple):
    scores: torch.Tensor
    aux: object


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("number", torch.tensor(2.0))
        self.table = nn.Parameter(torch.randn(64))
{parts}

    def forward(self, {parameters}):
        h = v = {first}
{steps}
        return {output}


def make():
    torch.manual_seed(0)
    {values}
    net = Net()
{sizes}
    net.{mode}()
    return net, {given}
"""


def make(seeds: Path, scratch: Path, rng: random.Random) -> Path:
    """A file with a module, to be read as `FILE:make`. ``seeds`` are not used."""
    names = rng.sample(NAMES, rng.choice((1, 1, 1, 2, 3)))
    values = [_value(rng) for _ in names]
    steps = _steps(values[0], rng)
    if rng.random() < 0.15:
        steps.insert(rng.randrange(len(steps) + 1), rng.choice(UNSOUND))
    if len(names) > 1:
        steps.insert(0, f"h = h + {names[1]}.float().mean()")
    used = {part for part in PARTS if any(f"self.{part}" in step for step in steps)}
    used |= {"linear"} if "shared" in used else set()
    star = "*, " if rng.random() < 0.1 else ""
    keyed = "{" + ", ".join(f"{name!r}: {name}" for name in rng.sample(names, len(names))) + "}"
    given = keyed if star or rng.random() < 0.3 else names[0] if len(names) == 1 else f"({', '.join(names)})"
    text = FILE.format(
        parts="\n".join(f"        self.{part} = {PARTS[part]}" for part in PARTS if part in used),
        parameters=star + ", ".join(names),
        first=names[0],
        steps="\n".join(f"        {step}" for step in steps),
        output=rng.choice(OUTPUTS),
        values="\n    ".join(f"{name} = {value}" for name, value in zip(names, values, strict=True)),
        sizes=SIZES.format(keyed=keyed) if any("Lazy" in PARTS[part] for part in used) else "",
        mode=rng.choice(("eval",) * 20 + ("train", "half", "double", "float")),
        given=given,
    )
    path = scratch / "model.py"
    path.write_text(text)
    return path


def _steps(value: str, rng: random.Random) -> list[str]:
    """Most of them run, on the first input."""
    import torch
    from torch import nn

    from edgeattn import LinearSelfAttention

    names: dict[str, Any] = {"torch": torch, "nn": nn, "F": nn.functional, "LinearSelfAttention": LinearSelfAttention}
    owner = SimpleNamespace(number=torch.tensor(2.0), table=torch.randn(64))
    names["self"] = owner
    steps: list[str] = []
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for part, made in PARTS.items():
            setattr(owner, part, eval(made, names))
        try:
            names["h"] = names["v"] = eval(value, names)
        except (RuntimeError, TypeError, IndexError):
            return [rng.choice(STEPS)]
        while len(steps) < rng.choice((1, 2, 3, 5, 8)):
            step = rng.choice(STEPS)
            before = names["h"]
            try:
                exec(step, names)
                if names["h"].is_floating_point() and not names["h"].isfinite().all():
                    raise ValueError("a result that is no number")
            except Exception:  # noqa: BLE001 - a user's step that fails is now and then kept
                names["h"] = before
                if rng.random() < 0.99:
                    continue
            steps.append(step)
    return steps


def _value(rng: random.Random) -> str:
    shape, dtype = rng.choice(SHAPES), rng.choice(TYPES)
    if "float" in dtype or "complex" in dtype:
        made = f"torch.randn({shape}, dtype=torch.float32).to(torch.{dtype})"
    else:
        made = f"torch.randint(0, {2 if dtype == 'bool' else 9}, {shape}).to(torch.{dtype})"
    lying = rng.choice(LYING)
    return lying.replace("{}", f"({made})") if "{}" in lying else made


def read(path: Path) -> Any:
    """Export the module to one format, as a user would; a file that is another model is a fault."""
    from edgeattn.export import pipeline, source

    formats = ("onnx", "onnx", "tflite", "coreml")
    options = pipeline.Options(formats=(formats[zlib.crc32(path.read_bytes()) % len(formats)],))
    with tempfile.TemporaryDirectory() as folder:
        made = pipeline.export(source.load(f"{path}:make"), options, Path(folder) / "b")
        wrong = [row for row in made.report.rows if not row.passed]
        if wrong:
            raise AssertionError(f"{wrong[0].candidate} {wrong[0].case} {wrong[0].output}: {wrong[0].reason}")
        return len(made.report.rows)
