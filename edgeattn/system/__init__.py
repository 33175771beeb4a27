"""Files, cache, progress, output, plug-in registries, vendors' errors.

It imports no torch and no other room; every room may import it.
"""
