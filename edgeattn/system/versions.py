"""Versions of edgeattn and its tools, read from the packages' metadata: nothing is imported."""

from importlib import metadata

from edgeattn._version import __version__

TOOLS = (
    "torch",
    "onnx",
    "onnxscript",
    "onnxruntime",
    "litert-torch",
    "ai-edge-litert",
    "ai-edge-quantizer",
    "coremltools",
    "executorch",
    "coreai-core",
    "coreai-opt",
    "coreai-torch",
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of edgeattn and of the tools that are installed."""
    installed = {"edgeattn": __version__}
    for tool in TOOLS:
        try:
            installed[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return installed
