"""Lengths of time as people write them: 90s, 30m, 2h."""

import re

from edgeattn.errors import BadInputError

_SECONDS = {"s": 1, "m": 60, "h": 3600}
# A process starts in about a second; more than a day, no connection to a device is trusted to last.
_LEAST_S, _MOST_S = 1, 24 * 3600


def parse(text: str, option: str = "--for") -> float:
    """The length in seconds.

    Raises:
        BadInputError: it is no number with a unit, or not between a second and a day.
    """
    match = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,3})?)([smh])", text)
    if match is None:
        raise BadInputError(f"{option} is a number of seconds, minutes or hours, such as 90s, 30m or 2h, not {text!r}")
    return checked(float(match[1]) * _SECONDS[match[2]], option)


def checked(seconds: float, option: str) -> float:
    """The length itself.

    Raises:
        BadInputError: it is not between a second and a day.
    """
    if not _LEAST_S <= seconds <= _MOST_S:
        raise BadInputError(f"{option} is at least a second and at most a day (1s to 24h), not {seconds:g} s")
    return seconds


def clock(seconds: float) -> str:
    """Time from a beginning: ``0:27``, ``12:00``, ``1:05:00``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def words(seconds: float) -> str:
    """A length of time in words: ``27 seconds``, ``4 minutes``; from ten minutes on in whole minutes."""
    if seconds < 60 or (seconds < 600 and abs(seconds - 60 * round(seconds / 60)) > 5):
        number, unit = round(seconds), "second"
    else:
        number, unit = round(seconds / 60), "minute"
    return f"{number} {unit}{'' if number == 1 else 's'}"
