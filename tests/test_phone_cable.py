"""`edgeattn phone --adb`: the real adb, a loopback phone, and a real browser that opens what the phone is told to."""

import queue
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from attached import Attach
from browsers import chromium, opened
from conftest import Answer
from phone_client import serving

pytestmark = pytest.mark.usefixtures("phone_runtimes")


def test_the_page_comes_by_the_cable(attach: Attach, made_bundle: Path, tmp_path: Path) -> None:
    told: queue.Queue[str] = queue.Queue()
    phone = attach(view=told.put)
    with serving(made_bundle, "--adb", "--out", tmp_path / "r.json", "--wait", 1, "--runs", 3) as server:
        url = told.get(timeout=30)
        assert url == server.url
        assert url.startswith("http://localhost:")
        with opened(chromium(), url):
            code, document, said = server.wait(120)
    assert code == 0, said
    assert {record["threads"] for record in document["records"]} == {1, 2}
    assert all(record["parity"]["passed"] for record in document["records"])
    # The browser says itself that it is no phone's.
    assert {record["origin"] for record in document["records"]} == {"browser"}
    listed = subprocess.run(
        ["adb", "-s", phone.serial, "reverse", "--list"], capture_output=True, text=True, check=True
    )
    assert listed.stdout.strip() == ""


def test_which_phone(
    attach: Attach,
    edgeattn: Callable[..., Answer],
    made_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "r.json"
    answer = edgeattn("phone", made_bundle, "--adb", "--out", out)
    assert answer.code == 3
    assert "no phone is attached" in answer.err
    attach()
    attach()
    answer = edgeattn("phone", made_bundle, "--adb", "--out", out)
    assert answer.code == 2
    assert "ANDROID_SERIAL=" in answer.err
    monkeypatch.setenv("ANDROID_SERIAL", "nosuch")
    assert edgeattn("phone", made_bundle, "--adb", "--out", out).code == 3
    assert not out.exists()
