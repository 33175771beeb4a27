"""Cases for whole numbers and booleans: the ends of their range, every row of an embedding, random ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from edgeattn.export.source import Source, run
from edgeattn.parity.battery import SEED

# The most rows of an embedding that are looked at, and the most cases that this may take.
MOST_ROWS, MOST_CASES = 1024, 128


@dataclass(frozen=True)
class Range:
    """The values from ``low`` to ``high`` of an input; ``rows`` says that they are the rows of an embedding."""

    low: int
    high: int
    rows: bool = False

    def filled(self, like: Tensor, value: int) -> Tensor:
        return torch.full_like(like, value)

    def random(self, like: Tensor, generator: torch.Generator) -> Tensor:
        return torch.randint(self.low, self.high + 1, like.shape, generator=generator).to(like.dtype)


def ranges(source: Source) -> dict[str, Range]:
    """The range of every input that is of no floating type: the rows of the embedding that it chooses from; False and
    True; else what the example's values show."""
    if all(x.is_floating_point() for x in source.inputs.values()):
        return {}
    tables = _tables(source)
    found = {}
    for name, x in source.inputs.items():
        if x.is_floating_point() or x.is_complex() or not x.numel():
            continue
        if name in tables:
            found[name] = Range(0, tables[name] - 1, rows=True)
        elif x.dtype == torch.bool:
            found[name] = Range(0, 1)
        elif x.dtype == torch.uint8 and int(x.max()) > 1:
            found[name] = Range(0, 255)
        else:
            low, high = (int(n) for n in x.to(torch.int64).aminmax())  # not all types have their own
            found[name] = Range(min(0, low), max(1, high))
    return found


def cases(source: Source) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """The name of each case, what it is, and the inputs that are not as in the example."""
    known = ranges(source)
    if not known:
        return
    number = {name: "" if len(known) == 1 else f"_{i}" for i, name in enumerate(known, 1)}
    for name, of in known.items():
        for title, value in (("lowest", of.low), ("highest", of.high)):
            yield (
                f"{title}{number[name]}",
                f"{name} is {value} everywhere",
                {name: of.filled(source.inputs[name], value)},
            )
    generator = torch.Generator().manual_seed(SEED)
    values = {name: of.random(source.inputs[name], generator) for name, of in known.items()}
    about = "; ".join(f"{name} random from {of.low} to {of.high}" for name, of in known.items())
    yield "random", f"{about}, seed {SEED}", values
    yield from _rows(source, {name: of for name, of in known.items() if of.rows})


def _rows(source: Source, tables: dict[str, Range]) -> Iterator[tuple[str, str, dict[str, Tensor]]]:
    """Cases that look at the rows of all embeddings in turn."""
    chosen = {name: looked_at(of, source.inputs[name].numel()) for name, of in tables.items()}
    sizes = {name: source.inputs[name].numel() for name in tables}
    number = max((-(-len(rows) // sizes[name]) for name, rows in chosen.items()), default=0)
    for i in range(number):
        values, about = {}, []
        for name, rows in chosen.items():
            take = [rows[(i * sizes[name] + k) % len(rows)] for k in range(sizes[name])]
            example = source.inputs[name]
            values[name] = torch.tensor(take).reshape(example.shape).to(example.dtype)
            about.append(f"{name} holds rows {take[0]} to {take[-1]} of {tables[name].high + 1:,}")
        yield f"rows_{i + 1:03}", "; ".join(about), values


def looked_at(table: Range, size: int) -> list[int]:
    """The rows of an embedding that the cases look at: all, or evenly spaced ones with the first and the last."""
    total = table.high + 1
    most = min(total, MOST_ROWS, MOST_CASES * size)
    return list(range(total)) if most == total else sorted({round(i * (total - 1) / (most - 1)) for i in range(most)})


def left_out(source: Source) -> str:
    """What the cases leave out of the embeddings, in words; empty if nothing."""
    found = []
    for name, of in ranges(source).items():
        rows = looked_at(of, source.inputs[name].numel()) if of.rows else []
        if of.rows and len(rows) <= of.high:
            found.append(f"{len(rows):,} of the {of.high + 1:,} rows that {name} chooses from are looked at")
    return "; ".join(found)


class _Embeddings(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the number of rows of each embedding, and the indices that are looked up in it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[int, Tensor]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.overloadpacket in (torch.ops.aten.embedding, torch.ops.aten._embedding_bag_forward_only):
            self.found.append((args[0].shape[0], args[1].clone()))
        return func(*args, **(kwargs or {}))


def _tables(source: Source) -> dict[str, int]:
    """The number of rows of the embedding that an input's values are looked up in; the least, if there are several."""
    with _Embeddings() as recorded:
        run(source.module, source.inputs)
    rows: dict[str, int] = {}
    for number, indices in recorded.found:
        for name, x in source.inputs.items():
            whole = not x.is_floating_point() and x.dtype != torch.bool
            if whole and x.numel() == indices.numel() and torch.equal(x.flatten().long(), indices.flatten().long()):
                rows[name] = min(number, rows.get(name, number))
    return rows
