"""Latencies that others have published, each with its source and date: data, never measured here.

``report`` and the rooms above may import it.
"""
