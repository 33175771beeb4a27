"""Browsers of Debian that nobody drives: the phone's page needs nobody."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest


def program(name: str, package: str = "") -> str:
    """Where it is; where Debian's packages are missing, the skip names them."""
    found = shutil.which(name)
    if not found:
        pytest.skip(f"install it: apt-get install -y {package or name}")
    return found


@contextmanager
def opened(words: Sequence[str], url: str) -> Iterator[None]:
    """A browser at ``url``; ``{home}`` in ``words`` is a folder of its own."""
    # WebKit's own sandbox does not start as root; it draws without a GPU.
    settings = {"WEBKIT_DISABLE_SANDBOX_THIS_IS_DANGEROUS": "1", "LIBGL_ALWAYS_SOFTWARE": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home,
        subprocess.Popen(
            [*(word.format(home=home) for word in words), url],
            env={**os.environ, **settings, "HOME": home},
            start_new_session=True,
            **quiet,
        ) as process,
    ):
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def chromium() -> list[str]:
    return [program("chromium"), "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir={home}"]


def firefox() -> list[str]:
    return [program("firefox-esr"), "--headless", "--no-remote", "--profile", "{home}"]


def webkit() -> list[str]:
    """WebKitGTK, the engine of Safari: its own small browser, on a screen in memory."""
    [browser] = Path("/usr/lib").glob("*/webkit2gtk-4.1/MiniBrowser") if program("xvfb-run") else []
    return ["xvfb-run", "--auto-servernum", str(browser)]
