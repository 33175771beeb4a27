"""From PyTorch to three formats, and the places where they run."""

import os

# onnxruntime's own builds send what they are used for to its makers, and leave an identifier of the machine in the
# user's cache, unless this is set before it loads; processes that are started from here inherit it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
