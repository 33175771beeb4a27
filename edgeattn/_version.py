"""The version, in one place; setuptools reads it without an import."""

__version__ = "0.1.0"
