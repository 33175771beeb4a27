"""onnxruntime, on its CPU execution provider."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeattn.errors import ArtifactError
from export.runtimes import Arrays, Signature
from export.source import first_line

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


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return options


def _load(path: Path, options: Any) -> Any:
    import onnxruntime

    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ArtifactError(f"onnxruntime refuses {path}: {first_line(error)}") from error
