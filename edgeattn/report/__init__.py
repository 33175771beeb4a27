"""Writes reports of records and bundles in HTML, Markdown, CSV or JSON. It measures nothing, and needs no torch.

``setups``, ``interface`` and ``cli`` may import it.
"""
