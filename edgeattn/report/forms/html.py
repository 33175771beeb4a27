"""A self-contained page without script or request, light and dark. jinja2 escapes all text, but not our own SVGs."""

import itertools
from typing import Any

from edgeattn.errors import MissingError
from edgeattn.report.document import Document, Part, Picture, Section, Table
from edgeattn.report.forms import Form, encoded
from edgeattn.report.pictures import canvas


class Html(Form):
    """A self-contained page."""

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
        return encoded(page)


def runs(section: Section) -> list[tuple[str, list[Part]]]:
    """The parts of a section, grouped by neighbours of one kind: small pictures share a grid, and text after a wide
    picture is set beside it."""

    def group(part: Part) -> str:
        if isinstance(part, Picture):
            return "wide" if part.wide else "grid"
        return "table" if isinstance(part, Table) else "text"

    groups: list[tuple[str, list[Part]]] = []
    for name, parts in itertools.groupby(section.parts, key=group):
        if name == "text" and groups and groups[-1][0] == "wide" and len(groups[-1][1]) == 1:
            groups[-1] = ("beside", [*groups[-1][1], *parts])
        else:
            groups.append((name, list(parts)))
    return groups


FORM: Form = Html()
