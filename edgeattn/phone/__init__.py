"""Artifacts measured in the browser of any phone: a server, a page, and records from its results.

``report``, ``setups``, ``interface`` and ``cli`` may import it.
"""
