"""Signs that a clock was held down, in the state of a board or machine before and after a run."""

import re
from collections.abc import Mapping

_LIMIT = re.compile(r"at most (\d+) MHz(?: of (\d+) MHz)?")
# A limit this close below the highest frequency is rounding, or a step of the clock.
_CLOSE = 0.98


def slowed(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """A sentence for each policy whose limit was cut in the run or stood below what its cores reach, for each cooling
    device that was at work, and for a count of thermal throttling that grew."""
    found = []
    for name, text in before.items():
        was, now = _LIMIT.search(text), _LIMIT.search(after.get(name, ""))
        if not was or not name.startswith("policy"):
            continue
        if now and int(now[1]) < int(was[1]):
            found.append(f"the highest frequency of {name} was cut from {was[1]} MHz to {now[1]} MHz during the run")
        elif was[2]:
            found.append(capped(name, was[1], was[2]))
    for name, text in after.items():
        if name.startswith("cooling "):
            found.append(f"{name.removeprefix('cooling ')} held the clock down after the run, at its step {text}")
    counts = [state.get("thermal throttling", "") for state in (before, after)]
    if all(count.isdigit() for count in counts) and int(counts[1]) > int(counts[0]):
        found.append(
            f"the processor slowed down for its temperature {int(counts[1]) - int(counts[0])} times in the run"
        )
    return found


def is_capped(limit_khz: str, reach_khz: str) -> bool:
    """Whether a limit lies below the frequency that the cores reach; both in kHz, as the system writes them."""
    return limit_khz.isdigit() and reach_khz.isdigit() and 0 < int(limit_khz) < _CLOSE * int(reach_khz)


def capped(name: str, limit_mhz: str, reach_mhz: str) -> str:
    """The sentence for a limit that stood before the run began."""
    return f"{name} was held at {limit_mhz} MHz or less from the start, and its cores reach {reach_mhz} MHz"
