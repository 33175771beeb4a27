"""The operators that are most sensitive to int8."""

from edgeattn.profile.studies import Sensitivity


def draw(results: tuple[Sensitivity, ...], title: str) -> str:
    """An SVG of the twenty most sensitive operators."""
    from edgeattn.report.pictures.bars import Bar, draw

    bars = [
        Bar(f"{result.number} {result.kind}", result.sqnr_db, f"{result.sqnr_db:.1f} dB")
        for result in results[:20]
        if result.sqnr_db is not None
    ]
    return draw(bars, title=title, unit="signal to noise with this operator alone in int8, dB")
