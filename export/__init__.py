"""From a PyTorch module to a bundle: source, weights, cases, calibration, conversion, quantisation.

Imported as ``edgeattn.export``. ``profile`` and the rooms above may import it.
"""
