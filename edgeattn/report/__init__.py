"""Results as pictures: nothing is measured or decided here, and PyTorch is not needed."""
