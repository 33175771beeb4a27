"""The operators, layout ops and costs of any file, read in a sandboxed process.

``parity`` and the rooms above may import it.
"""
