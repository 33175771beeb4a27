"""The page on an attached Android phone: a port of its localhost is forwarded here, which needs no certificate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from edgeattn.errors import BadInputError, TargetError
from edgeattn.phone.serving import Endpoint
from edgeattn.targets.android import adb as _adb


@contextmanager
def opened(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Open the page in the phone's browser; the endpoint with its address there. The forwarding ends with the block.

    Raises:
        BadInputError: several phones are attached, and ANDROID_SERIAL, adb's own variable, names none.
        MissingError: adb is not installed, or no phone is attached that allows this.
        TargetError: the phone cannot open it.
    """
    phone = _phone()
    port = phone.reverse(endpoint.port)
    try:
        page = endpoint.page.replace(f":{endpoint.port}/", f":{port}/")
        output = phone.shell(_adb.quote(["am", "start", "-a", "android.intent.action.VIEW", "-d", page]))
        if "Error" in output:  # `am start` has exit code 0 all the same
            raise TargetError(f"the phone {phone.serial} cannot open a page: {output.strip().splitlines()[-1]}")
        yield replace(endpoint, page=page, open_at=page)
    finally:
        with suppress(TargetError):  # a phone that is gone has ended it
            phone.end_reverse(port)


def _phone() -> _adb.Phone:
    serial = os.environ.get("ANDROID_SERIAL", "")
    if not serial and len(serials := _adb.usable()) > 1:
        raise BadInputError(f"several phones are attached; choose one: ANDROID_SERIAL={serials[0]} edgeattn phone …")
    return _adb.reach(serial)
