"""Exact inference-time rewrites: a module goes in, the module that is deployed comes out."""

from edgeattn.lowering.rewrite import Change, Lowering, lower

__all__ = ["Change", "Lowering", "lower"]
