"""From a bundle to records: latency or instruction counts on a target, their statistics, comparison and studies.

``phone`` and the rooms above may import it.
"""
