"""Which operator int8 hurts, as a picture."""

from edgeattn.profile.studies import Sensitivity


def draw(found: tuple[Sensitivity, ...], title: str) -> str:
    """An SVG of the twenty most sensitive operators."""
    from edgeattn.report.pictures.bars import Bar, draw

    bars = [
        Bar(f"{one.number} {one.kind}", one.sqnr_db, f"{one.sqnr_db:.1f} dB")
        for one in found[:20]
        if one.sqnr_db is not None
    ]
    return draw(bars, title=title, unit="signal to noise with this operator alone in int8, dB")
