"""Numbers as people read them, with the unit that suits their size."""

DASH = "\N{EN DASH}"


def ms(value: float | None) -> str:
    """Milliseconds with three significant digits: ``0.482``, ``20.3``, ``1,204``."""
    if value is None:
        return DASH
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def mib(value: float | None) -> str:
    return DASH if value is None else f"{value:.0f}" if value >= 10 else f"{value:.2f}"


def millions(value: int | None) -> str:
    """Instructions in millions."""
    if value is None:
        return DASH
    return f"{value / 1e6:,.1f}" if value >= 1e7 else f"{value / 1e6:.2f}" if value >= 1e6 else f"{value / 1e6:.3f}"


def units(value: float | None) -> str:
    """Times the noise floor."""
    return DASH if value is None else f"{value:.2f}" if value < 100 else f"{value:,.0f}"


def sentence(text: str) -> str:
    """With a capital letter."""
    return text[:1].upper() + text[1:]


def number(count: int, one: str, many: str = "") -> str:
    """``1 artifact``, ``3 artifacts``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"
