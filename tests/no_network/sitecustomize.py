"""Imported by every Python that starts with this folder on PYTHONPATH: nothing is asked of any other machine.

A line for each process that it guards, and for each attempt, goes to the file that EDGEATTN_GUARD names: what catches
the error of an attempt does not hide it.
"""

import os
import sys
from typing import Any

LOG = os.environ["EDGEATTN_GUARD"]
LOOPBACK = ("127.", "::1", "localhost")
# Where in an event's arguments the other side stands: an address, or a host's name.
EVENTS = {
    "socket.connect": 1,
    "socket.sendto": 1,
    "socket.sendmsg": 1,
    "socket.getaddrinfo": 0,
    "socket.gethostbyname": 0,
    "socket.gethostbyaddr": 0,
}


def report(line: str) -> None:
    with open(LOG, "a", encoding="utf-8") as log:
        log.write(line + "\n")


def guard(event: str, arguments: tuple[Any, ...]) -> None:
    if event not in EVENTS:
        return
    other = arguments[EVENTS[event]]
    # An address is a host and a port, a host's name is text, and a path (AF_UNIX) is both: it begins with a slash.
    host = other[0] if isinstance(other, tuple) else other
    host = host.decode("utf-8", "replace") if isinstance(host, bytes) else host
    if host and not host.startswith((*LOOPBACK, "/", "\0")):
        report(f"asked {host} by {event} in {sys.argv[:2]}")
        raise PermissionError(f"no network: {host}")


report(f"guarded {os.getpid()}")
sys.addaudithook(guard)
