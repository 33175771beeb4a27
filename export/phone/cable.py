"""The page on the Android phone that is attached: its own localhost leads here, which needs no certificate."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from edgeattn.errors import MissingError
from export.phone.serving import Place

_WAIT_S = 30


@contextmanager
def opened(place: Place) -> Iterator[None]:
    """Lead the phone's port to ours and open the page in its browser; the way is closed again at the end.

    Raises:
        MissingError: adb is not installed, or not exactly one phone is attached and allows this.
    """
    if not shutil.which("adb"):
        raise MissingError("adb is not installed; install it, on Debian: apt-get install -y adb")
    port = f"tcp:{place.port}"
    _adb("reverse", port, port)
    try:
        # The URL has no character that a shell on the phone would take for more than it is.
        _adb("shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", place.page)
        yield
    finally:
        subprocess.run(["adb", "reverse", "--remove", port], capture_output=True, check=False, timeout=_WAIT_S)


def _adb(*words: str) -> None:
    try:
        done = subprocess.run(["adb", *words], capture_output=True, text=True, check=False, timeout=_WAIT_S)
    except subprocess.TimeoutExpired as error:
        raise MissingError(f"adb {words[0]} had no answer within {_WAIT_S} s; is the phone unlocked?") from error
    said = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()
    # `am start` says an error and still ends well.
    if done.returncode or any(line.startswith("Error") for line in said):
        raise MissingError(f"adb {words[0]} failed: {said[-1]}")
