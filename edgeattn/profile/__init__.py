"""From a bundle to records: latency or instruction counts on a target, their statistics, comparison and studies.

``phone``, ``report``, ``setups`` and ``cli`` may import it.
"""
