"""Versions of what takes part, read from the packages' own metadata: nothing is imported for it."""

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
    "numpy",
)


def versions() -> dict[str, str]:
    """Versions of edgeattn and of the tools that are installed."""
    found = {"edgeattn": __version__}
    for tool in TOOLS:
        try:
            found[tool] = metadata.version(tool)
        except metadata.PackageNotFoundError:
            continue
    return found
