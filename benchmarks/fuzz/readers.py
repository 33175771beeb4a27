"""What is fuzzed: for each reader its real files, how they are damaged, and the call that a command makes of them."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from edgeattn.errors import EdgeAttnError
from edgeattn.inspection import inspect as inspection

from . import meaning, mutate, users

Mutation = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True)
class Reader:
    """``make(seeds, scratch, rng)`` writes a damaged copy of a real file to a folder and returns its path. ``read``
    takes the path, and returns a value or raises an EdgeAttnError. Where ``read`` may crash, ``apart`` does the same
    in a separate process, as the commands do."""

    make: Callable[[Path, Path, random.Random], Path]
    read: Callable[[Path], Any]
    apart: Callable[[Path], Any] | None = None


def _one(pattern: str, mutation: Mutation) -> Callable[[Path, Path, random.Random], Path]:
    def make(seeds: Path, scratch: Path, rng: random.Random) -> Path:
        file = rng.choice(sorted(seeds.glob(pattern)))
        out = scratch / f"x{file.suffix}"
        out.write_bytes(mutation(file.read_bytes(), rng))
        return out

    return make


def _in_folder(pattern: str, mutations: dict[str, Mutation]) -> Callable[[Path, Path, random.Random], Path]:
    """A copy of a folder in which one file is damaged; or missing, empty, a folder, or a link to outside."""

    def make(seeds: Path, scratch: Path, rng: random.Random) -> Path:
        folder = rng.choice(sorted(seeds.glob(pattern)))
        out = scratch / f"x{folder.suffix}"
        shutil.copytree(folder, out)
        name = rng.choice([name for name, _ in mutations.items() for file in out.glob(name)])
        file = rng.choice(sorted(out.glob(name)))
        content = file.read_bytes()
        file.unlink()
        chance = rng.random()
        if chance > 0.04:
            file.write_bytes(mutations[name](content, rng))
        elif chance > 0.03:
            file.mkdir()
        elif chance > 0.01:
            file.symlink_to(rng.choice(("/etc/passwd", "/dev/zero", ".", "/proc/self/mem", file.name)))
        return out

    return make


def _onnx(content: bytes, rng: random.Random) -> bytes:
    import onnx

    if rng.random() < 0.3:
        return mutate.data(content, rng)
    proto = onnx.ModelProto.FromString(content)
    mutate.message(proto, rng)
    return bytes(proto.SerializeToString())


def _tflite(content: bytes, rng: random.Random) -> bytes:
    from ai_edge_litert import schema_py_generated as schema

    from edgeattn.formats.tflite import pack

    if rng.random() < 0.4:
        return mutate.data(content, rng)
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    mutate.objects(model, rng)
    try:
        return pack(model, len(content))
    except Exception:  # noqa: BLE001  # such objects cannot be written; damage the bytes instead
        return mutate.data(content, rng)


def _coreml(content: bytes, rng: random.Random) -> bytes:
    from coremltools.proto import Model_pb2

    if rng.random() < 0.2:
        return mutate.data(content, rng)
    proto = Model_pb2.Model.FromString(content)
    mutate.message(proto.mlProgram if rng.random() < 0.8 else proto, rng)
    return bytes(proto.SerializeToString())


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """The JSON head is damaged as JSON, or the file as bytes."""
    length = int.from_bytes(content[:8], "little")
    if rng.random() < 0.3:
        return mutate.data(content, rng)
    head = mutate.document(content[8 : 8 + length], rng)
    return len(head).to_bytes(8, "little") + head + content[8 + length :]


def _maps(content: bytes, rng: random.Random) -> bytes:
    """Tensors of other shapes, kinds and values, or missing, in a valid file; or its metadata is damaged."""
    import numpy as np
    from safetensors.numpy import load, save

    if rng.random() < 0.2:
        return _safetensors(content, rng)
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]["maps"]
    tensors = load(content)
    for _ in range(rng.choice((0, 1, 1, 3))):
        name = rng.choice(sorted(tensors))
        values = tensors.pop(name)
        turned = (values.ravel(), values[:0], values[:1], values[None], values.T, values.ravel()[0].reshape(()))
        filled = [np.full_like(values, value) for value in (*mutate.FLOATS, -1e-30, 3e38)]
        changed = [
            *turned,
            *filled,
            *(values.astype(kind) for kind in ("float16", "int8", "uint64", "bool", "complex64")),
        ]
        if rng.random() < 0.9:
            tensors[name] = np.ascontiguousarray(rng.choice(changed))
    if rng.random() < 0.4:
        metadata = mutate.document(metadata.encode(), rng).decode("utf-8", "replace")
    return save(tensors, metadata={"maps": metadata})


def _inspect(path: Path) -> Any:
    from edgeattn.interface import render

    result = inspection.inspect(path)
    return _shown(result, render.inspection(result))


def _shown(value: Any, lines: Any) -> str:
    """The output of a command, as tables and as JSON."""
    from pydantic_core import to_json
    from rich.console import Console

    with open(os.devnull, "w") as nowhere:
        for line in lines:
            Console(file=nowhere, highlight=False).print(line)
    return to_json(value, inf_nan_mode="null").decode()


def _package(path: Path) -> Any:
    """Inspect a package, and run it once."""
    import numpy as np

    from edgeattn.runtimes import mil_reference

    text = _inspect(path)
    with mil_reference.opened(path) as session:
        shapes = {name: [n or 1 for n in shape] for name, shape in session.signature.inputs.items()}
        kinds = {name: session.program.types[name].dtype.numpy for name in shapes}
        session.run({name: np.zeros(shape, kinds[name]) for name, shape in shapes.items()})
    return text


class _Nowhere:
    """A target that runs no format: parity then checks the bundle alone."""

    place, runtimes = "nowhere", {}


def _bundle(path: Path) -> Any:
    from edgeattn.bundle import manifest
    from edgeattn.bundle.golden import golden_cases
    from edgeattn.interface import render
    from edgeattn.parity import check

    loaded = manifest.load(path)
    report = check.verify(loaded, connection=_Nowhere())  # type: ignore[arg-type]  # never connected
    golden = golden_cases(loaded)
    for artifact in loaded.manifest.artifacts:
        for case in golden.values():
            case.inputs_for(artifact)
    return _shown((loaded.manifest, report), [render.files(loaded), *render.parity(report)])


def _layers(path: Path) -> Any:
    from edgeattn.bundle import manifest
    from edgeattn.interface import render
    from edgeattn.parity import layers

    _update_hashes(path)
    result = layers.compare(manifest.load(path))
    return _shown(result, render.layers(result))


def _golden(path: Path) -> Any:
    _update_hashes(path)
    return _bundle(path)


def _update_hashes(path: Path) -> None:
    """Write the hashes of the damaged files into the manifest, as the maker of a hostile bundle would."""
    from edgeattn.bundle.manifest import describe

    file = path / "manifest.json"
    if not file.is_file() or file.is_symlink():
        return
    try:
        manifest = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        return
    file.unlink()
    alone = (manifest["evaluation"], manifest["attention"])
    for entry in (*manifest["golden"].values(), *manifest["layers"].values(), *alone):
        if entry is not None and (path / entry["path"]).is_file() and not (path / entry["path"]).is_symlink():
            entry["sha256"] = describe(path, path / entry["path"]).sha256
    file.write_text(json.dumps(manifest))


def _verdicts(content: bytes, rng: random.Random) -> bytes:
    """Damage the parity document in a manifest."""
    manifest = json.loads(content)
    damaged = mutate.document(json.dumps(manifest["parity"]).encode(), rng)
    before, after = json.dumps(manifest | {"parity": mutate.NESTED}).encode().split(f'"{mutate.NESTED}"'.encode())
    return before + damaged + after


def _report(path: Path) -> Any:
    from edgeattn.report import forms, gather
    from edgeattn.report.compose import compose

    _update_hashes(path)
    document = compose(gather.gather([path], inside=False))
    return [forms.write(document, Path(f"x{ending}")) for ending in forms.endings()]


def _records(path: Path) -> Any:
    from edgeattn.bundle import records
    from edgeattn.interface import render_records

    file = records.load(path)
    return _shown(file, render_records.measured(file.records, (), file.not_run))


def _judged(path: Path) -> Any:
    """As `edgeattn parity` where no runtime is: whatever the manifest says, nothing was checked, and nothing passes."""
    from edgeattn.bundle import manifest
    from edgeattn.parity import check, ci

    text = _bundle(path)
    loaded = manifest.load(path)
    report = check.verify(loaded, connection=_Nowhere())  # type: ignore[arg-type]  # never connected
    ElementTree.fromstring(ci.junit(report, path.name))
    ci.markdown(report, path.name).encode()
    try:
        check.require_a_check(loaded, report)
    except EdgeAttnError:
        return text
    raise AssertionError("a bundle of which no artifact ran was not refused")


def _compared(path: Path) -> Any:
    """As `edgeattn compare` with all limits, against itself and against what it was made from, and `report` of it."""
    from edgeattn.bundle import records
    from edgeattn.interface import render_records
    from edgeattn.profile import comparison, latency
    from edgeattn.report import gather
    from edgeattn.report.results import results

    found = records.load(path)
    limits = comparison.Limits(p99=1.1, load=1.1, memory=1.1, size_growth=1.0, layout_ops=0)
    ratios = comparison.ratios(found.records)
    shown = [_shown(ratios, render_records.measured(found.records, ratios, found.not_run))]
    for record in found.records:
        latency.quality_warnings(record.samples_ns)
    for old, new in ((found.records, found.records), (found.records, found.records[::-1])):
        result = comparison.compare(old=old, new=new, limits=limits)
        shown.append(_shown(result, render_records.compared(result)))
    results(gather.gather([path], inside=False))
    return shown


def _result(path: Path) -> Any:
    import numpy as np

    from edgeattn.bundle.records import Device
    from edgeattn.targets import Job
    from edgeattn.targets._runner import job_folder

    job = Job(Path("model.onnx"), {"x": np.zeros(1, np.float32)}, warmup=1, runs=7)
    measurement = job_folder.read(path, job, origin="host", device=Device("here", {}), stopped="")
    # One number for each output, as in a report.
    return measurement.samples_ns, {name: np.nansum(value) for name, value in measurement.first.items()}


_JOB: dict[str, Mutation] = {
    "result.json": mutate.document,
    "samples.txt": mutate.data,
    "*.npy": mutate.array,
}
READERS = {
    "onnx": Reader(_one("*.onnx", _onnx), _inspect, inspection.inspect_apart),
    "tflite": Reader(_one("*.tflite", _tflite), _inspect, inspection.inspect_apart),
    "mlpackage": Reader(
        _in_folder(
            "*.mlpackage",
            {
                "Manifest.json": mutate.document,
                "Data/com.apple.CoreML/model.mlmodel": _coreml,
                "Data/com.apple.CoreML/weights/weight.bin": mutate.data,
            },
        ),
        _package,
    ),
    "manifest": Reader(_in_folder("bundle", {"manifest.json": mutate.document}), _bundle),
    "golden": Reader(
        _in_folder("bundle", {"golden/*.safetensors": _safetensors, "evaluation/*.safetensors": _safetensors}),
        _golden,
    ),
    "layers": Reader(
        _in_folder("bundle", {"layers/*.safetensors": _safetensors, "layers/*.json": mutate.document}), _layers
    ),
    "records": Reader(_one("records*.json", mutate.document), _records),
    "report": Reader(
        _in_folder(
            "report",
            {"attention/*.safetensors": _maps, "manifest.json": _verdicts, "records.json": mutate.document},
        ),
        _report,
    ),
    "judged": Reader(_in_folder("bundle", {"manifest.json": meaning.manifest}), _judged),
    "compared": Reader(_one("records*.json", meaning.records), _compared),
    "users": Reader(users.make, users.read),
    "worker": Reader(_in_folder("worker*", _JOB), _result),
    "native": Reader(_in_folder("native*", _JOB), _result),
}


def met(seeds: Path, name: str, number: int) -> bool:
    """Whether an input that crashed its reader is answered as it should be where that is a process of its own."""
    reader = READERS[name]
    if reader.apart is None:
        return False
    with tempfile.TemporaryDirectory() as scratch:
        path = reader.make(seeds, Path(scratch), random.Random(number))
        try:
            reader.apart(path)
        except EdgeAttnError as error:
            return "\n" not in str(error)
        return True
