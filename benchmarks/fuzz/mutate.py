"""Structure-aware mutations: a file's contents are changed and written again, so that the damage is deep inside."""

import json
import random
from collections.abc import Callable
from typing import Any

import numpy as np

INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    127,
    128,
    255,
    256,
    32767,
    65535,
    65536,
    2**31 - 1,
    -(2**31),
    2**31,
    2**32,
    2**40,
    2**63 - 1,
)
# Stands for a list in a list, too deep for a recursive writer.
NESTED = "~nested~"
FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-45, 1e38, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = (
    "",
    "x",
    "y",
    "a" * 5000,
    "..",
    "../../x",
    "/etc/passwd",
    "\0",
    "\n",
    "é\u202e",
    "%s%n",
    "artifact",
    "[/]",
    "\x1b[2J",
    "1",
)


def data(content: bytes, rng: random.Random) -> bytes:
    """Bytes flipped, numbers overwritten, pieces cut, repeated or moved."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        offset = rng.randrange(len(out) + 1)
        kind = rng.randrange(7)
        if kind == 0 and offset < len(out):
            out[offset] ^= 1 << rng.randrange(8)
        elif kind == 1 and offset < len(out):
            out[offset] = rng.randrange(256)
        elif kind == 2:
            width = rng.choice((1, 2, 4, 8))
            offset -= offset % width
            number = rng.choice(INTEGERS) % 2 ** (8 * width)
            out[offset : offset + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 3:
            del out[offset:]
        elif kind == 4:
            del out[offset : offset + rng.choice((1, 4, 64))]
        elif kind == 5:
            out[offset:offset] = out[offset : offset + rng.choice((1, 4, 64, 1024))]
        else:
            start = rng.randrange(len(out) + 1)
            piece = out[start : start + rng.choice((4, 16, 64))]
            out[offset : offset + len(piece)] = piece
    return bytes(out)


def number(value: int, rng: random.Random) -> int:
    return rng.choice((value + 1, value - 1, -value, value * 2, *rng.sample(INTEGERS, 4)))


def scalar(value: Any, rng: random.Random) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return number(value, rng)
    if isinstance(value, float):
        return rng.choice(FLOATS)
    if isinstance(value, bytes):
        return data(value, rng)
    text = str(value)
    return rng.choice((text[:-1], text + "x", text[::-1], *rng.sample(TEXTS, 3)))


def document(content: bytes, rng: random.Random) -> bytes:
    """JSON with a value replaced, removed, renamed or repeated; sometimes broken as a text."""
    if rng.random() < 0.2:
        return data(content, rng)
    tree = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 5))):
        parent, key = _place(tree, rng)
        if key is not None:
            _change(parent, key, rng)
    # NaN and Infinity are no JSON, and Python writes and reads them.
    text = json.dumps(tree, ensure_ascii=rng.random() < 0.5)
    depth = rng.choice((2, 50, 100_000))
    return text.replace(f'"{NESTED}"', "[" * depth + "]" * depth).encode("utf-8", "surrogatepass")


def _place(tree: Any, rng: random.Random) -> tuple[Any, Any]:
    """Somewhere in the tree, by going down it until it ends or luck does; no key where there is nothing."""
    parent, key, value = None, None, tree
    while isinstance(value, dict | list) and value and (key is None or rng.random() < 0.85):
        parent = value
        key = rng.choice(list(parent)) if isinstance(parent, dict) else rng.randrange(len(parent))
        value = parent[key]
    return parent, key


def _change(parent: Any, key: Any, rng: random.Random) -> None:
    what = rng.randrange(6)
    if what == 0:
        del parent[key]
    elif what == 1 and isinstance(parent, dict):
        parent[rng.choice(TEXTS)] = parent.pop(key)
    elif what == 2 and isinstance(parent, list):
        parent[:] = parent * rng.choice((0, 2, 50))
    elif what == 3:
        parent[key] = rng.choice((None, {}, [], True, "text", 3, -1.5, NESTED, {"": {}}, *FLOATS, *INTEGERS))
    elif not isinstance(parent[key], dict | list | None):
        parent[key] = scalar(parent[key], rng)


def message(proto: Any, rng: random.Random) -> None:
    """A protobuf message, changed in place: a field anywhere inside it."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        fields = list(_fields(proto))
        if fields:
            _change_field(*rng.choice(fields), rng)


def _fields(proto: Any, depth: int = 0) -> Any:
    for field, value in proto.ListFields():
        yield proto, field
        if field.message_type is None or depth > 30:
            continue
        if field.message_type.GetOptions().map_entry:
            inner = [v for v in value.values() if hasattr(v, "ListFields")]
        else:
            inner = list(value) if field.is_repeated else [value]
        for part in inner:
            yield from _fields(part, depth + 1)


def _change_field(proto: Any, field: Any, rng: random.Random) -> None:
    value = getattr(proto, field.name)
    mapped = field.message_type is not None and field.message_type.GetOptions().map_entry
    kind = rng.randrange(4)
    if kind == 0 or (mapped and kind < 3):
        if mapped and len(value):
            del value[rng.choice(list(value))]
        else:
            proto.ClearField(field.name)
    elif field.is_repeated and not mapped:
        items = list(value)
        if kind == 1:
            rng.shuffle(items)
        elif kind == 2:
            items += items[: rng.choice((1, 3))]
        elif field.message_type is None:
            index = rng.randrange(len(items))
            items[index] = scalar(items[index], rng)
        else:
            items.pop(rng.randrange(len(items)))
        _set(proto, field.name, items)
    elif field.message_type is None:
        _set(proto, field.name, scalar(value, rng))


def _set(proto: Any, name: str, value: Any) -> None:
    """Set a field, if its type allows the value."""
    try:
        if isinstance(value, list):
            copies = [type(v).FromString(v.SerializeToString()) if hasattr(v, "ListFields") else v for v in value]
            proto.ClearField(name)
            getattr(proto, name).extend(copies)
        else:
            setattr(proto, name, value)
    except (ValueError, TypeError, UnicodeError):
        return


def objects(root: Any, rng: random.Random) -> None:
    """A tree of plain objects (flatbuffers' object API), changed in place."""
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        attributes = list(_attributes(root))
        owner, name = rng.choice(attributes)
        value = getattr(owner, name)
        if isinstance(value, np.ndarray) and value.size:
            changed = value.copy()
            index = rng.randrange(changed.size)
            limits = np.iinfo(changed.dtype) if changed.dtype.kind in "iu" else None
            new = scalar(changed.flat[index].item(), rng)
            changed.flat[index] = new if limits is None else min(max(new, limits.min), limits.max)
            options: list[Callable[[], Any]] = [lambda: changed, lambda: value[:-1], lambda: np.append(value, value)]  # noqa: B023  # called at once
            setattr(owner, name, rng.choice((options[0], options[0], *options))())
        elif isinstance(value, list) and value:
            items = list(value)
            kind = rng.randrange(4)
            if kind == 0:
                rng.shuffle(items)
            elif kind == 1:
                items.pop(rng.randrange(len(items)))
            elif kind == 2:
                items.append(rng.choice(items))
            else:
                items = []
            setattr(owner, name, items)
        elif isinstance(value, int | float | str | bytes):
            new = scalar(value, rng)
            setattr(owner, name, min(max(new, 0), 2**31 - 1) if type(new) is int else new)
        elif rng.random() < 0.1:
            setattr(owner, name, None)


def _attributes(root: Any) -> Any:
    for name, value in vars(root).items():
        if value is None:
            continue
        yield root, name
        for item in value if isinstance(value, list) else [value]:
            if hasattr(item, "__dict__") and not isinstance(item, np.ndarray):
                yield from _attributes(item)


def array(content: bytes, rng: random.Random) -> bytes:
    """An .npy file whose header says something else, or whose data is damaged."""
    if rng.random() < 0.3:
        return data(content, rng)
    head, newline, body = content.partition(b"\n")
    text = head[10:].decode("latin1").strip()
    swaps = (
        (
            "'<f4'",
            rng.choice(("'|O'", "'<f8'", "'<U9'", "'|V0'", "[('a', '<f4')]", "'<M8[ns]'", "'<f3'", "'|S0'", "None")),
        ),
        ("False", "True"),
        ("(", rng.choice(("(0, ", "(-1, ", "(1000000000000, ", f"({'1, ' * 70}", "('a', ", "(1e9, ", "(True, "))),
        (")", rng.choice((", 3)", "", ")" * 9))),
        ("'shape'", rng.choice(("'size'", "'descr'", "'shape' ''"))),
        (text, rng.choice(("{}", "[]", "__import__('os').system('x')", "(" * 200, "1", "None", "'" * 3))),
    )
    old, new = rng.choice(swaps)
    text = text.replace(old, new, 1) + " " * 16
    return content[:8] + (len(text) + 1).to_bytes(2, "little") + text.encode("latin1") + newline + body
