"""The page on an attached Android phone: a port of its own localhost leads here, which needs no certificate."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

from edgeattn.errors import BadInputError, TargetError
from edgeattn.phone.serving import Place
from edgeattn.targets.android import adb as _adb


@contextmanager
def opened(place: Place) -> Iterator[Place]:
    """Open the page in the phone's browser; the place as it is called there. The way is closed again at the end.

    Raises:
        BadInputError: several phones are attached, and ANDROID_SERIAL, adb's own variable, names none.
        MissingError: adb is not installed, or no phone is attached that allows this.
        TargetError: the phone cannot open it.
    """
    phone = _phone()
    port = phone.reverse(place.port)
    try:
        page = place.page.replace(f":{place.port}/", f":{port}/")
        said = phone.shell(_adb.quote(["am", "start", "-a", "android.intent.action.VIEW", "-d", page]))
        if "Error" in said:  # `am start` ends well all the same
            raise TargetError(f"the phone {phone.serial} cannot open a page: {said.strip().splitlines()[-1]}")
        yield replace(place, page=page, open_at=page)
    finally:
        with suppress(TargetError):  # a phone that is gone has closed it
            phone.end_reverse(port)


def _phone() -> _adb.Phone:
    serial = os.environ.get("ANDROID_SERIAL", "")
    if not serial and len(serials := _adb.usable()) > 1:
        raise BadInputError(f"several phones are attached; choose one: ANDROID_SERIAL={serials[0]} edgeattn phone …")
    return _adb.reach(serial)
