"""onnxruntime, on its CPU execution provider, or on another that is installed."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeattn.bundle.tensors import Arrays
from edgeattn.errors import ArtifactError
from edgeattn.formats.graph import count, in_category
from edgeattn.runtimes import Left, Observed, Runtime, Session, Share, Signature, ValueCallback
from edgeattn.runtimes._providers import CPU, Provider
from edgeattn.system.plugins import require
from edgeattn.system.vendor_errors import refusing

_MOST_DATA_BYTES = 2**28


class OnnxRuntime(Runtime):
    format = "onnx"
    extra = "onnx"
    packages = ("onnxruntime",)
    names_more = "PROVIDER KEY=VALUE ..."

    def unavailable(self) -> str | None:
        return None

    def version(self) -> str:
        import onnxruntime

        return str(onnxruntime.__version__)

    @contextmanager
    def open(self, path: Path, threads: int = 1, variant: str = "") -> Iterator[Session]:
        """Load ``path``; ``variant`` is an execution provider with its options, "" the CPU's.

        Raises:
            ArtifactError: onnxruntime refuses the file.
            BadInputError: an option of the provider has no value.
            MissingError: there is no such provider here.
        """
        yield _Session(_load(path, _options(threads), provider=Provider.parse(variant)))

    def share(self, path: Path, variant: str = "") -> Share:
        """The nodes of its optimised graph that the provider takes, and those that fall back to the CPU's."""
        provider = Provider.parse(variant)
        options = _options(1)
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        session = _load(path, options, provider=provider)
        taken = partitions = 0
        left: list[Left] = []
        for subgraph in session.get_provider_graph_assignment_info():
            nodes = subgraph.get_nodes()
            if subgraph.ep_name == provider.name:
                taken, partitions = taken + len(nodes), partitions + 1
            else:
                left += (Left(node.op_type, f"{subgraph.ep_name} runs it", node.name) for node in nodes)
        label = f"onnxruntime {variant}".strip()
        return Share(label, taken, tuple(left), partitions if provider.name != CPU else None)

    def observe(self, path: Path, inputs: Arrays, callback: ValueCallback) -> None:
        """Run a copy of ``path`` in which every value is an output; ``callback`` gets each, by its name in the graph.

        An output cannot be fused away: onnxruntime fuses less here than in the file itself.

        Raises:
            ArtifactError: the file is damaged.
            MissingError: the package onnx is not installed.
        """
        require("onnx", extra=self.extra)
        import onnx

        with refusing(f"{path} is not a readable ONNX model"):
            model = onnx.load(str(path))
        ops = {name: node.op_type for node in model.graph.node for name in node.output if name}
        outputs = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ops if name not in outputs)
        with refusing(f"{path} cannot be looked into"):  # with weights beside it, it may be over 2 GB
            content = model.SerializeToString()
        session = _load(path, _options(1), content)
        with refusing(f"onnxruntime cannot run {path}"):
            values = session.run(list(ops), inputs) if ops else []
        for name, value in zip(ops, values, strict=True):
            callback(Observed(name, ops[name], value))

    def examine(self, path: Path) -> dict[str, Any]:
        """The operators of the graph that it runs on this machine, after all its optimisations."""
        from edgeattn.formats.onnx import data_bytes, read_unchecked

        # Its copy would hold all weights, and no file of protobuf can hold 2 GB.
        if (beside := data_bytes(path)) > _MOST_DATA_BYTES:
            return {"unknown": f"not optimised here: {beside:,} bytes of weights are beside the file"}
        with tempfile.TemporaryDirectory() as scratch:
            out = Path(scratch) / "optimised.onnx"
            try:
                optimise(path, out)
            except ArtifactError as error:
                # The file may be sound ONNX, and yet this runtime refuses it: report that, do not hide it.
                return {"unknown": str(error)}
            ops = read_unchecked(out, path.absolute().parent).ops
        return {
            "operators": count(ops),
            "layout_ops": count(in_category(ops, "layout")),
            "copy_ops": count(in_category(ops, "copy")),
            "reorder_ops": count(in_category(ops, "reorder")),
        }


RUNTIME: Runtime = OnnxRuntime()


class _Session(Session):
    def __init__(self, session: Any) -> None:
        self.session = session
        self.signature = Signature(
            {i.name: tuple(n if isinstance(n, int) else None for n in i.shape) for i in session.get_inputs()},
            tuple(o.name for o in session.get_outputs()),
        )

    def run(self, inputs: Arrays) -> Arrays:
        with refusing("onnxruntime cannot run the file on these inputs"):
            return dict(zip(self.signature.outputs, self.session.run(None, inputs), strict=True))


def optimise(path: Path, out: Path) -> None:
    """Write the graph that onnxruntime runs on this machine, after all its optimisations, to ``out``."""
    options = _options(1)
    options.optimized_model_filepath = str(out)
    _load(path, options)


def _options(threads: int) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its log goes past us to the terminal, with names from the file; what fails is raised too.
    options.log_severity_level = 4
    # x86 without VNNI adds pairs of int8 products in 16 bits, which saturate: the file would look wrong. This
    # selects kernels that do not, and changes nothing elsewhere.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return options


def _load(path: Path, options: Any, content: bytes | None = None, provider: Provider = Provider()) -> Any:  # noqa: B008  # it is frozen
    """A session of ``path``, or of ``content``, its rewritten copy."""
    import onnxruntime

    provider.add_to(options)
    with refusing(f"onnxruntime refuses {path}"):
        # Where a provider fails it would go on with the CPU alone, and say so on the terminal only.
        return onnxruntime.InferenceSession(content or str(path), options, enable_fallback=0)
