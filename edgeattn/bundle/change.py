"""What a rewrite did to one module; a file of its own, so that reading a manifest needs no torch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """One rewrite: the path of the module in its parent (empty for the root), what it was, what it became."""

    path: str
    before: str
    after: str
    reason: str
