"""How the four axes of a map are ordered."""

from typing import Literal

# [B, C, H, W], and [B, H, W, C].
Layout = Literal["channels_first", "channels_last"]
