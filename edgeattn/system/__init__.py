"""Files, cache, progress, output, plug-in registries, vendors' errors. No torch, and no other room: every room may import it."""
