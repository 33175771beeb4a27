"""One file a form of the report, found by the ending of the file that is written. Each is a module with

    write(document)     a Document as the bytes of a file

What a document says is a stranger's text: each form escapes it for itself.
"""

from importlib import import_module
from pathlib import Path

from edgeattn.errors import BadInputError
from edgeattn.report.document import Document

ENDINGS = (".html", ".md", ".csv", ".json")


def check(path: Path) -> None:
    """Refuse an ending that is no form.

    Raises:
        BadInputError: it is none.
    """
    if path.suffix not in ENDINGS:
        raise BadInputError(f"{path} must end with {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}: that chooses the form")


def write(document: Document, path: Path) -> bytes:
    """The document in the form that the ending of ``path`` says; nothing is written yet.

    Raises:
        BadInputError: the ending is no form.
        MissingError: a package of the extra ``report`` is not installed.
    """
    check(path)
    content: bytes = import_module(f"edgeattn.report.forms.{path.suffix[1:]}").write(document)
    return content
