"""Forms of the report, one file each: HTML, Markdown, CSV, JSON. Each holds ``FORM``, a :class:`Form`. The ending of
the output file chooses the form.

The text of a document is untrusted: each form escapes it.
"""

from pathlib import Path
from typing import Protocol

from edgeattn.errors import BadInputError
from edgeattn.report.document import Document
from edgeattn.system.foreign import shown
from edgeattn.system.plugins import Registry


class Form(Protocol):
    """A form of the report; the name of its module is the ending of its files."""

    def write(self, document: Document) -> bytes:
        """The document as the bytes of a file.

        Raises:
            MissingError: a package of the extra ``report`` is not installed.
        """
        ...


FORMS: Registry[Form] = Registry(__name__, "form")


def encoded(text: str) -> bytes:
    """The bytes of a document as text, which steers no terminal, whatever its names and sentences hold. A lone
    surrogate, which JSON can spell and UTF-8 cannot, is shown as a question mark."""
    return shown(text.encode("utf-8", "replace").decode(), keep="\n").encode()


def endings() -> tuple[str, ...]:
    """The endings of all forms, with the dot."""
    return tuple(f".{name}" for name in FORMS.names)


def check(path: Path) -> None:
    """Refuse an ending that no form has.

    Raises:
        BadInputError: no form has this ending.
    """
    known = endings()
    if path.suffix not in known:
        raise BadInputError(f"{path} must end with {', '.join(known[:-1])} or {known[-1]}: that chooses the form")


def write(document: Document, path: Path) -> bytes:
    """The bytes of the document in the form that the ending of ``path`` chooses; no file is written.

    Raises:
        BadInputError: no form has this ending.
        MissingError: a package of the extra ``report`` is not installed.
    """
    check(path)
    return FORMS.get(path.suffix[1:]).write(document)
