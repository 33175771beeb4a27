"""The common style of all pictures: real text, titles for screen readers, and colours that a page can change."""

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

# Colours by role. In a page each is a variable of its style sheet (`--series-1`), for light and dark. The series are
# Okabe and Ito's, which the colour-blind can distinguish.
COLOURS = {
    "ink": "#1b1f24",
    "muted": "#667080",
    "grid": "#d5dae1",
    "good": "#1a7f55",
    "bad": "#b3261f",
    "series-1": "#0072b2",
    "series-2": "#d55e00",
    "series-3": "#009e73",
    "series-4": "#cc79a7",
    "series-5": "#e69f00",
    "series-6": "#56b4e9",
}
SERIES = tuple(colour for role, colour in COLOURS.items() if role.startswith("series"))
STYLES = ("-", "--", "-.", ":")
# Characters that XML forbids, and that a record may contain.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_NUMBERED = re.compile(r'\bid="|url\(#|href="#')

_SETTINGS: Any = {
    # Text stays text, and a dollar sign in a name begins no formula.
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "edgeattn",
    # Laid out in the font that matplotlib includes, shown in it or in the reader's own.
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": COLOURS["ink"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.edgecolor": COLOURS["muted"],
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "axes.titlesize": 9,
    "axes.linewidth": 0.6,
    "grid.color": COLOURS["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["muted"],
    "ytick.color": COLOURS["muted"],
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.facecolor": "none",
}


def plain(text: str, length: int = 80) -> str:
    """Untrusted text for a picture: without control characters, and cut at the front to ``length`` characters."""
    text = _CONTROL.sub(" ", text)
    return text if len(text) <= length else "…" + text[1 - length :]


@contextmanager
def figure(width: float, height: float) -> "Iterator[Figure]":
    """An empty figure, in inches; draw on it and :func:`svg` it inside the block.

    Raises:
        MissingError: matplotlib is not installed.
    """
    from edgeattn.errors import MissingError

    try:
        import matplotlib
        from cycler import cycler
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingError.package("matplotlib", extra="report") from error
    with matplotlib.rc_context({**_SETTINGS, "axes.prop_cycle": cycler(color=SERIES)}):
        drawn = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(drawn)
        yield drawn


def logarithmic(axis: "Axis", least: float, most: float) -> None:
    """Plain numbers on an axis from ``least`` to ``most``: powers of ten, and more if these are few."""
    from matplotlib.ticker import LogLocator

    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if most < 100 * least else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter("")


def svg(drawn: "Figure", title: str, description: str) -> str:
    """The figure as an SVG document with a title and a description; the same figure gives the same bytes."""
    out = io.StringIO()
    drawn.savefig(out, format="svg", dpi=120, transparent=True, metadata={"Date": None, "Creator": None})
    head, opened, rest = out.getvalue().partition("<svg ")
    attributes, closed, body = rest.partition(">")
    title, description = (escape(_CONTROL.sub(" ", text)) for text in (title, description))
    named = f"<title id='title'>{title}</title><desc id='desc'>{description}</desc>"
    return f"{head}{opened}role='img' aria-labelledby='title desc' {attributes}{closed}\n {named}{body}"


def inline(document: str, prefix: str) -> str:
    """An SVG document as an element of a page: no prolog, names of its own, and the page's colours."""
    element = document[document.index("<svg ") :]
    element = element.replace("aria-labelledby='title desc'", f"aria-labelledby='{prefix}title {prefix}desc'")
    element = element.replace("<title id='title'>", f"<title id='{prefix}title'>")
    element = element.replace("<desc id='desc'>", f"<desc id='{prefix}desc'>")
    # This style would apply to the whole page, whose own style sheet has the same.
    element = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", element, flags=re.DOTALL)
    element = _NUMBERED.sub(lambda match: match.group() + prefix, element)
    for role, colour in COLOURS.items():
        element = element.replace(colour, f"var(--{role})")
    # The page sets the size; the view box has the proportions.
    head, closed, body = element.partition(">")
    return re.sub(r' (width|height)="[^"]*"', "", head) + closed + body
