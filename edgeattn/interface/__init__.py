"""edgeattn from Python: a module becomes a bundle, a bundle answers questions, and each answer can show itself.

It neither prints nor exits. Only ``cli`` may import it.
"""
