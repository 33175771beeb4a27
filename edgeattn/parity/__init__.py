"""From a bundle to a verdict: is it still the same model?"""
