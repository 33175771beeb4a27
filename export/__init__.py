"""From PyTorch to three formats, and the places where they run."""
