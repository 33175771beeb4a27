"""ML programs (MIL, the language inside an .mlpackage): reading them from disk, and what their ops mean.

``package`` and ``values`` read files and need no torch; ``program`` runs what ``ops`` define.
"""
