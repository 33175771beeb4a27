"""A page of its own: no script, no request, light and dark. Text is escaped by jinja2; only our own SVGs are not."""

import itertools
from typing import Any

from edgeattn.errors import MissingError
from edgeattn.report.document import Document, Part, Picture, Section, Table
from edgeattn.report.forms import Form
from edgeattn.report.pictures import canvas


class Html(Form):
    """A page of its own."""

    def write(self, document: Document) -> bytes:
        """The page, UTF-8.

        Raises:
            MissingError: jinja2 is not installed.
        """
        try:
            import jinja2
            from markupsafe import Markup  # jinja2's own
        except ImportError as error:
            raise MissingError.package("jinja2", extra="report") from error
        environment = jinja2.Environment(
            loader=jinja2.PackageLoader("edgeattn.report", "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        numbers = itertools.count(1)

        def inline(picture: Picture) -> Any:
            return Markup(canvas.inline(picture.svg, f"p{next(numbers)}-"))

        def kind(part: object) -> str:
            return type(part).__name__.lower()

        page = environment.get_template("report.html").render(document=document, inline=inline, kind=kind, runs=runs)
        # A lone surrogate, which JSON can spell and UTF-8 cannot, is shown as a question mark.
        return page.encode("utf-8", "replace")


def runs(section: Section) -> list[tuple[str, list[Part]]]:
    """The parts of a section by neighbours of one kind: small pictures share a grid, and what is said right after a
    wide one stands beside it."""

    def group(part: Part) -> str:
        if isinstance(part, Picture):
            return "wide" if part.wide else "grid"
        return "table" if isinstance(part, Table) else "text"

    found: list[tuple[str, list[Part]]] = []
    for name, parts in itertools.groupby(section.parts, key=group):
        if name == "text" and found and found[-1][0] == "wide" and len(found[-1][1]) == 1:
            found[-1] = ("beside", [*found[-1][1], *parts])
        else:
            found.append((name, list(parts)))
    return found


FORM: Form = Html()
