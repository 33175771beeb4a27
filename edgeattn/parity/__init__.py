"""From a bundle to a verdict: is it still the same model?

``export`` and the rooms above may import it.
"""
