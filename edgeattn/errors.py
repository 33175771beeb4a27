"""Every error that edgeattn raises on purpose.

EdgeAttnError            exit code 2
├── BadInputError        what the user gave cannot be used (also a ValueError)
│   ├── LoweringError    the module cannot be rewritten
│   ├── ConversionError  a vendor's converter refused the module
│   └── ArtifactError    a file is not a readable artifact or bundle
│       └── RefusedError a runtime refuses to load a file, or to run it
├── TargetError          a run on a target failed; exit code 1
└── MissingError         a package or a device is missing; exit code 3
"""


class EdgeAttnError(Exception):
    """The root; its text is one sentence that says what is wrong and what to do."""

    exit_code = 2


class BadInputError(EdgeAttnError, ValueError):
    """What the user gave cannot be used."""


class LoweringError(BadInputError):
    """A module cannot be rewritten as it is."""


class ConversionError(BadInputError):
    """A vendor's converter refused a module; the vendor's own error is the cause."""


class ArtifactError(BadInputError):
    """A file or folder is not a readable artifact or bundle."""


class RefusedError(ArtifactError):
    """A runtime refuses to load a file, or to run it; the other files of its bundle are no worse for it."""


class TargetError(EdgeAttnError):
    """A run on a target (a phone, a board, an emulated core) crashed or lost its connection, without any result."""

    exit_code = 1


class MissingError(EdgeAttnError):
    """Something that is needed is not installed, or does not exist on this machine."""

    exit_code = 3

    @classmethod
    def package(cls, name: str, *, extra: str) -> "MissingError":
        """The sentence for a missing package, with the command that installs it."""
        return cls(f"{name} is not installed; install it with: pip install 'edgeattn[{extra}]'")
