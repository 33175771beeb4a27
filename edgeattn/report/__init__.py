"""Records and bundles to a report in HTML, Markdown, CSV or JSON. It measures and judges nothing, and needs no torch.

``setups``, ``interface`` and ``cli`` may import it.
"""
