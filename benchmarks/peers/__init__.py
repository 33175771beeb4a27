"""MobileViTv2 and its attention as others export them, measured beside ours: `python -m benchmarks.peers`."""
