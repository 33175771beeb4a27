"""The Python interface: ``deploy`` makes a bundle of a module, and a bundle has methods that return results.

It neither prints nor exits. Only ``cli`` may import it.
"""
