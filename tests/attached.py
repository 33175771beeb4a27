"""Loopback phones, attached to the real `adb`."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import loop_phone
import pytest
from adbd import Phone

from edgeattn.targets._runner import native
from edgeattn.targets.android import adb
from edgeattn.targets.emulated_arm import toolchain

Attach = Callable[..., Phone]


@pytest.fixture(scope="session")
def base_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file system of a phone, made once; where it cannot be, the skip says what is missing."""
    if os.geteuid() != 0:
        pytest.skip("the loopback phone needs root, for chroot")
    if not shutil.which("adb"):
        pytest.skip(adb.INSTALL)
    if absent := toolchain._missing_packages() or native.missing_packages():
        pytest.skip(absent)
    native.build()
    root = tmp_path_factory.mktemp("phone") / "root"
    root.mkdir()
    loop_phone.make_root(root, toolchain.build().root("cortex-a76") / "proc/cpuinfo")
    return root


@pytest.fixture(scope="session")
def adb_server(base_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A server of our own, which finds nothing by itself and keeps its key in a folder of its own."""
    home = tmp_path_factory.mktemp("adb")
    (home / ".android").mkdir()
    port = 6100 + os.getpid() % 900
    settings = {
        "ANDROID_ADB_SERVER_PORT": str(port),
        "ANDROID_SDK_HOME": str(home),
        "ANDROID_USER_HOME": str(home / ".android"),
        "ADB_MDNS": "0",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        subprocess.run(["adb", "start-server"], check=True, capture_output=True)
        yield
        subprocess.run(["adb", "kill-server"], check=True, capture_output=True)


@pytest.fixture
def attach(base_root: Path, adb_server: None, tmp_path: Path) -> Iterator[Attach]:
    """Attach a phone of its own folder."""
    phones: list[Phone] = []

    def new(**faults: object) -> Phone:
        root = tmp_path / f"phone-{len(phones)}"
        subprocess.run(["cp", "-al", base_root, root], check=True)
        phone = Phone(root, **faults)  # type: ignore[arg-type]  # as the caller writes them
        phones.append(phone)
        connecting = subprocess.Popen(["adb", "connect", phone.serial], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 20
        while adb.devices().get(phone.serial) != phone.state and time.monotonic() < until:
            time.sleep(0.05)
        # An offline phone lets it wait for ten seconds.
        connecting.kill()
        connecting.wait()
        return phone

    yield new
    for phone in phones:
        phone.lose()
        phone.switch_off()
        subprocess.run(["adb", "disconnect", phone.serial], check=False, capture_output=True)


def runner_instead(folder: Path, line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the phone run a line of shell, written into ``folder``, instead of each native runner."""
    (folder / native.GLIBC).mkdir(parents=True)
    for name in native.LIBRARIES:  # the loader is what is started
        loop_phone.write_script(folder / native.GLIBC / name, line)
    for runtime in native.RUNTIMES:
        (folder / runtime).mkdir()
        (folder / runtime / "runner").touch()
    monkeypatch.setattr(native, "ready", lambda: native.Native(folder))


def left_on(phone: Phone) -> list[str]:
    return [file.name for file in (phone.root / "data/local/tmp").iterdir()]
