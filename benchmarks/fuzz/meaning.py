"""Semantic mutations: valid JSON of the right types that says what cannot be, or leaves nothing to check."""

import json
import random
from collections.abc import Callable
from typing import Any

Change = Callable[[Any, random.Random], None]

HUGE = (2**63 - 1, 2**63, 10**30, 10**400, -1, 0, 1)
NAMES = ("x", "y", "", "\0", "\x1b[2J", "a\u202eb", "[/]", "input/x", "a" * 5000, "..", "<&]]>")
DTYPES = ("int8", "uint8", "int7", "float32", "float16", "bfloat16", "complex64", "bool", "object", "", "|V0", "int64")


def _some(entries: Any, rng: random.Random) -> Any:
    keys = sorted(entries) if isinstance(entries, dict) else range(len(entries))
    return entries[rng.choice(list(keys))]


def _tensors(manifest: Any, rng: random.Random) -> Any:
    """One list of tensors: of the model or of an artifact."""
    owner = rng.choice((manifest, *manifest["artifacts"]))
    return owner[rng.choice(("inputs", "outputs"))]


def _tensor(manifest: Any, rng: random.Random) -> Any:
    return _some(_tensors(manifest, rng) or [{}], rng)


def _empty(manifest: Any, rng: random.Random) -> None:
    manifest[rng.choice(("golden", "artifacts", "inputs", "outputs", "lowering", "cases", "tools", "parity"))].clear()


def _twice(manifest: Any, rng: random.Random) -> None:
    entries = rng.choice((manifest["artifacts"], _tensors(manifest, rng)))
    entries += entries[:1]


def _rename(manifest: Any, rng: random.Random) -> None:
    if entries := _tensors(manifest, rng):
        _some(entries, rng)["name"] = rng.choice((*NAMES, *(t["name"] for t in entries)))


def _steps(manifest: Any, rng: random.Random) -> None:
    tensor = _tensor(manifest, rng)
    tensor["dtype"] = rng.choice(DTYPES)
    tensor["scale"] = rng.choice((None, 0.0, -1.0, 1e-320, 1e308, 0.1))
    tensor["zero_point"] = rng.choice((None, 0, 300, -(2**70), 2**70))


def _shape(manifest: Any, rng: random.Random) -> None:
    shapes = ([], [None], [0], [-1, 2], [2**70], [1] * 70, [1, 3, None, 8])
    _tensor(manifest, rng)["shape"] = list(rng.choice(shapes))


def _layout(manifest: Any, rng: random.Random) -> None:
    _tensor(manifest, rng)["layout"] = rng.choice((None, "channels_last", "channels_first", "sideways"))


def _artifact(manifest: Any, rng: random.Random) -> None:
    artifact = _some(manifest["artifacts"] or [{}], rng)
    key = rng.choice(("format", "precision", "lowering", "inputs", "outputs", "judged_on", "beyond"))
    values = {
        "format": ("gguf", "", "onnx", "tflite", "coreml"),
        "precision": ("fp8", "", "int8", "fp16", "fp32"),
        "lowering": ("sideways", "", "channels_last", "channels_first"),
        "inputs": ([],),
        "outputs": ([],),
        "judged_on": (None, [], ["no such case"]),
        "beyond": ({}, {"example": "far"}, {"no such case": "far"}),
    }
    artifact[key] = rng.choice(values[key])


def _swap(manifest: Any, rng: random.Random) -> None:
    """Golden cases that have another's file, or fewer of them."""
    names = sorted(manifest["golden"])
    if names:
        manifest["golden"][rng.choice(names)] = manifest["golden"][rng.choice(names)]
        if rng.random() < 0.5:
            del manifest["golden"][rng.choice(names)]


def _sides(manifest: Any, rng: random.Random) -> None:
    """Inputs where outputs were, or those of another artifact."""
    owners = (manifest, *manifest["artifacts"])
    rng.choice(owners)[rng.choice(("inputs", "outputs"))] = rng.choice(owners)[rng.choice(("inputs", "outputs"))]


MANIFEST: tuple[Change, ...] = (_empty, _twice, _rename, _steps, _shape, _layout, _artifact, _swap, _sides)


def _record(document: Any, rng: random.Random) -> Any:
    return _some(document["records"] or [{"subject": {}, "device": {}}], rng)


def _number(document: Any, rng: random.Random) -> None:
    record = _record(document, rng)
    keys = ("warmup", "load_ns", "first_run_ns", "peak_memory_bytes", "warmup_ns", "threads", "calls_per_sample")
    owner = rng.choice((record, record["subject"]))
    owner[rng.choice(keys if owner is record else ("size_bytes", "layout_ops", "layout_bytes"))] = rng.choice(HUGE)


def _samples(document: Any, rng: random.Random) -> None:
    many = rng.choice((0, 1, 2, 19, 20, 1000, 1001))
    kinds: tuple[Callable[[], int], ...] = (
        lambda: 0,
        lambda: rng.choice((0, 1)),
        lambda: 10**6,
        lambda: rng.randrange(10**9),
        lambda: rng.choice(HUGE),
        lambda: 2**63 - 1,
    )
    draw = rng.choice(kinds)
    _record(document, rng)["samples_ns"] = [draw() for _ in range(many)]


def _counts(document: Any, rng: random.Random) -> None:
    count = {"total": rng.choice(HUGE), "simd": rng.choice(HUGE), "memory": rng.choice(HUGE)}
    _record(document, rng)["counts"] = [count] * rng.choice((1, 2, 7))


def _operators(document: Any, rng: random.Random) -> None:
    operator = {"name": rng.choice(NAMES), "kind": rng.choice(NAMES), "layer": "", "median_ns": rng.choice(HUGE)}
    _record(document, rng)["operators"] = [operator] * rng.choice((1, 30))


def _group(document: Any, rng: random.Random) -> None:
    for record in document["records"]:
        record["group"] = rng.choice(("g", "h", ""))


def _repeat(document: Any, rng: random.Random) -> None:
    document["records"] = document["records"] * rng.choice((0, 2, 5))


def _about(document: Any, rng: random.Random) -> None:
    record = _record(document, rng)
    record[rng.choice(("model", "target", "runtime", "started_at", "group", "command"))] = rng.choice(NAMES)
    record["labels"] = rng.choice(({}, {"study": rng.choice(("layout", "scaling", "mobilevit", "precision", "none"))}))
    if "details" in record["device"]:
        record["device"]["details"]["cores"] = rng.choice(("0", "0-3", "2", "", "-", "999999999-0"))


def _parity(document: Any, rng: random.Random) -> None:
    units = rng.choice((None, 0.0, -1.0, 1e308, 3.0))
    likeness = {"passed": rng.random() < 0.5, "reason": rng.choice(NAMES), "max_noise_units": units}
    _record(document, rng)["parity"] = likeness | {"rms_noise_units": units, "sqnr_db": units}


RECORDS: tuple[Change, ...] = (_number, _samples, _counts, _operators, _group, _repeat, _about, _parity)


def changed(content: bytes, rng: random.Random, changes: tuple[Change, ...]) -> bytes:
    """The same document with one to four of the changes."""
    document = json.loads(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        try:
            rng.choice(changes)(document, rng)
        except (KeyError, TypeError, IndexError):  # an earlier change took away what this one changes
            continue
    return json.dumps(document).encode()


def manifest(content: bytes, rng: random.Random) -> bytes:
    return changed(content, rng, MANIFEST)


def records(content: bytes, rng: random.Random) -> bytes:
    return changed(content, rng, RECORDS)
