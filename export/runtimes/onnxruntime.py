"""onnxruntime, on its CPU execution provider."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from export.plugins import require
from export.runtimes import Arrays, Observed, Signature
from export.vendor_errors import refusing

FORMAT = "onnx"
EXTRA = "onnx"
PACKAGES = ("onnxruntime",)


def unavailable() -> str | None:
    return None


def version() -> str:
    import onnxruntime

    return str(onnxruntime.__version__)


class _Session:
    def __init__(self, session: Any) -> None:
        self.session = session
        self.signature = Signature(
            {i.name: tuple(n if isinstance(n, int) else None for n in i.shape) for i in session.get_inputs()},
            tuple(o.name for o in session.get_outputs()),
        )

    def run(self, inputs: Arrays) -> Arrays:
        with refusing("onnxruntime cannot run the file on these inputs"):
            return dict(zip(self.signature.outputs, self.session.run(None, inputs), strict=True))


@contextmanager
def open(path: Path, threads: int = 1) -> Iterator[_Session]:
    """Load ``path``.

    Raises:
        ArtifactError: onnxruntime refuses the file.
    """
    yield _Session(_load(path, _options(threads)))


def optimise(path: Path, out: Path) -> None:
    """Write the graph that onnxruntime really runs on this machine, after all its optimisations, to ``out``."""
    options = _options(1)
    options.optimized_model_filepath = str(out)
    # Otherwise it warns that the file suits this kind of CPU only, which is what is asked for.
    options.log_severity_level = 3
    _load(path, options)


def observe(path: Path, inputs: Arrays, see: Callable[[Observed], None]) -> None:
    """Run a copy of ``path`` that gives every value as an output, and show ``see`` each, under its name in the graph.

    A value that has to be given cannot be fused away: onnxruntime fuses less here than it does otherwise.

    Raises:
        ArtifactError: the file is damaged.
        MissingError: the package onnx is not installed.
    """
    require("onnx", extra=EXTRA)
    import onnx

    with refusing(f"{path} is not a readable ONNX model"):
        model = onnx.load(str(path))
    ops = {name: node.op_type for node in model.graph.node for name in node.output if name}
    outputs = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ops if name not in outputs)
    session = _load(path, _options(1), model.SerializeToString())
    with refusing(f"onnxruntime cannot run {path}"):
        values = session.run(list(ops), inputs)
    for name, value in zip(ops, values, strict=True):
        see(Observed(name, ops[name], value))


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


def _load(path: Path, options: Any, content: bytes | None = None) -> Any:
    """A session of ``path``, or of ``content``, which was made of it."""
    import onnxruntime

    with refusing(f"onnxruntime refuses {path}"):
        return onnxruntime.InferenceSession(content or str(path), options, providers=["CPUExecutionProvider"])
