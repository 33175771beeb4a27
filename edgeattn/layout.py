"""How the four axes of a map are ordered."""

from typing import Literal

# [B, C, H, W]; [B, H, W, C]; and [B, C, H, W] that lies in memory as the second, PyTorch's torch.channels_last.
Layout = Literal["channels_first", "channels_last", "channels_last_memory"]
# What a user may ask a file's inputs and outputs to be: the second means the format's own.
EDGE_LAYOUTS = ("channels_first", "channels_last")
