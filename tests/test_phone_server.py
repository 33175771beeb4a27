"""The server of ``edgeattn phone``: what arrives is kept, whatever happens; what is not honest is refused."""

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from conftest import Answer
from hypothesis import given
from hypothesis import strategies as st
from phone_client import ANDROID, Client, Server, encoded, offered, serving
from pydantic import ValidationError

from edgeattn.bundle import records
from edgeattn.errors import MissingError
from edgeattn.phone import certificate, journal, setup
from edgeattn.phone.messages import Join, Message, Progress, Result
from edgeattn.phone.phones import Phones
from edgeattn.phone.results import sender


@pytest.fixture(scope="module")
def server(phone_runtimes: Path, made_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(made_bundle, "--out", tmp_path_factory.mktemp("phone") / "r.json") as running:
        yield running


def test_what_a_phone_sends_becomes_records(phone_runtimes: Path, made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    with serving(made_bundle, "--out", out, "--wait", "1", "--runs", "25") as server:
        client = Client(server.url, offered(made_bundle), name="<script>[red]Pixel")
        assert client.join() == []
        good, wrong, failed, *others = client.plan.tasks
        assert client.send("progress", {"task": good, "run": 0})[0] == 200
        samples = [1_000_000] * 13 + [2_000_000] * 12
        assert client.send("result", client.result(good, samples=samples, hidden=[1, 2]))[1] == {"passed": True}
        last = {"y": encoded(np.zeros(2048, np.float32).tobytes())}
        assert client.send("result", client.result(wrong, last=last))[1] == {"passed": False}
        assert client.send("result", {"task": failed, "failure": "[red]no[/] <b>WebGPU</b>"})[0] == 200
        assert client.join() == [good, wrong, failed]
        client.send("done", {})
        code, document, said = server.wait()
    assert code == 1
    assert not document["passed"]
    assert "phone 1 is done" in said
    saved = records.load(out)
    one, two = saved.records
    assert (one.origin, one.target, one.runtime) == ("browser", "browser", "onnxruntime-web wasm")
    assert one.samples_ns == tuple(samples)
    assert one.device.name == "<script>[red]Pixel"
    assert one.device.details["session"] == client.session
    assert not one.partial
    assert "during 2 of 25 samples (1, 2)" in one.untrusted[0]
    assert "two levels" in one.untrusted[1]
    assert one.parity
    assert one.parity.passed
    assert two.parity
    assert not two.parity.passed
    assert two.parity.reason.startswith("y of the last run: ")
    assert two.partial
    assert [entry.reason for entry in saved.not_run] == ["[red]no[/] <b>WebGPU</b>"]
    assert len(others) == 4
    report = (tmp_path / "report.html").read_text()
    assert "&lt;script&gt;[red]Pixel" in report
    assert "&lt;b&gt;WebGPU" in report
    assert "<script>[red]" not in report
    assert "<b>WebGPU" not in report


def test_outputs_that_are_not_the_models(phone_runtimes: Path, made_bundle: Path, tmp_path: Path) -> None:
    wrong = {
        "missing": {},
        "shape [3]": {"y": encoded(b"\0" * 12)},
        "NaN": {"y": encoded(np.full(2048, np.nan, np.float32).tobytes())},
    }
    with serving(made_bundle, "--out", tmp_path / "r.json", "--wait", "1") as server:
        client = Client(server.url, offered(made_bundle))
        client.join()
        for task, outputs in zip(client.plan.tasks, wrong.values(), strict=False):
            assert client.send("result", client.result(task, first=outputs))[1] == {"passed": False}
        client.send("done", {})
        _, document, _ = server.wait()
    for record, said in zip(document["records"], wrong, strict=True):
        assert said in record["parity"]["reason"]


def test_a_browser_of_this_machine_is_no_phone() -> None:
    """Only what the browser says differs; on an address of this machine not even that helps."""

    def origin(local: bool = False, **changes: object) -> str:
        return sender(Join.model_validate({**ANDROID, **changes}), session="s", local=local).origin

    assert origin() == "phone"
    assert origin(platform="iPhone") == "phone"
    assert origin(local=True) == "browser"
    assert origin(mobile=False) == "browser"
    assert origin(platform="Win32") == "browser"


def test_two_of_a_kind_stay_apart() -> None:
    phones = Phones()
    joined = [phones.join(Join.model_validate(ANDROID), local=False) for _ in range(3)]
    names = [phone.sender.device.name for phone in joined if phone]
    assert names == ["Pixel 9, Chrome 150", "Pixel 9, Chrome 150 #2", "Pixel 9, Chrome 150 #3"]
    assert joined[0]
    again = Join.model_validate({**ANDROID, "session": joined[0].session})
    assert phones.join(again, local=False) is joined[0]


def test_a_hundred_phones(phone_runtimes: Path, made_bundle: Path, tmp_path: Path) -> None:
    """No result is lost, doubled or given to another phone."""
    out = tmp_path / "r.json"
    what = offered(made_bundle)

    def visit(number: int) -> None:
        client = Client(server.url, what, name=f"phone {number}")
        client.join()
        for place, task in enumerate(list(client.plan.tasks)[:3]):
            message = client.result(task, samples=[1_000 * number + place + 1])
            for _ in range(1 + (number % 5 == 0)):  # some post again, as if the answer had been lost
                assert client.send("result", message)[0] == 200
        assert client.send("done", {})[0] == 200

    with serving(made_bundle, "--out", out, "--wait", "100", "--runs", "1") as server:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(visit, range(100)))
        status = Path(f"/proc/{server.process.pid}/status").read_text() if os.path.exists("/proc/self") else ""
        code, document, _ = server.wait()
    assert (code, document["phones"]) == (0, 100)
    found = records.load(out).records
    assert len(found) == 300
    by_phone = {number: [r for r in found if r.device.name == f"phone {number}"] for number in range(100)}
    for number, own in by_phone.items():
        assert sorted(r.samples_ns for r in own) == [(1_000 * number + place + 1,) for place in range(3)]
        assert len({r.device.details["session"] for r in own}) == 1
    held = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")]
    assert all(kib < 500_000 for kib in held)


def test_a_killed_server_loses_nothing(phone_runtimes: Path, made_bundle: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    arguments = (made_bundle, "--out", out, "--runs", "1")
    sent = []
    for round_ in range(2):
        with serving(*arguments) as server:
            client = Client(server.url, offered(made_bundle))
            client.join()
            for place, task in enumerate(list(client.plan.tasks)[:3]):
                sample = 100 * round_ + place + 1
                assert client.send("result", client.result(task, samples=[sample]))[0] == 200
                sent.append((sample,))
            server.process.send_signal(signal.SIGKILL)
            server.process.wait()
    # As if it had been killed in the middle of a line.
    with journal.path_of(out).open("ab") as file:
        file.write(b'{"record": {"model": "att')
    with serving(*arguments) as server:
        assert [r.samples_ns for r in records.load(out).records] == sent
        server.interrupt()
    assert [r.samples_ns for r in records.load(out).records] == sent
    assert [path.name for path in tmp_path.glob("r.json*")] == ["r.json"]


def test_a_kill_while_many_send(phone_runtimes: Path, made_bundle: Path, tmp_path: Path) -> None:
    """Whatever was acknowledged is there, once."""
    out = tmp_path / "r.json"
    what = offered(made_bundle)
    acknowledged: list[int] = []

    def visit(number: int) -> None:
        client = Client(server.url, what)
        with suppress(OSError, http.client.HTTPException, ValueError):
            client.join()
            for place, task in enumerate(what.tasks):
                sample = 100 * number + place + 1
                if client.send("result", client.result(task, samples=[sample]))[0] == 200:
                    acknowledged.append(sample)
                if len(acknowledged) > 20:
                    server.process.kill()

    with serving(made_bundle, "--out", out, "--runs", "1") as server:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(visit, range(8)))
        server.process.wait()
    with journal.writing(out):
        pass
    saved = [record.samples_ns[0] for record in records.load(out).records]
    assert len(acknowledged) > 20
    assert set(acknowledged) <= set(saved)
    assert len(saved) == len(set(saved))


def test_only_listed_files(server: Server, made_bundle: Path) -> None:
    client = Client(server.url, offered(made_bundle))
    for path in ("", "page/page.js", "page/worker.js", "plan.json", "runtimes/ort/ort.wasm.min.mjs", "artifacts/0"):
        assert client.request("GET", client.root + path)[0] == 200, path
    assert client.request("GET", f"{client.root}artifacts/0")[1] == (made_bundle / "attention-fp32.onnx").read_bytes()
    for path in (
        "manifest.json",
        "../manifest.json",
        "artifacts/../manifest.json",
        "page/..%2f..%2fserver.py",
        "page/%2e%2e/server.py",
        "runtimes/versions.json",
        "runtimes//etc/passwd",
        "artifacts/99",
        "page/landing.html",
    ):
        assert client.request("GET", client.root + path)[0] == 404, path


def test_without_the_token_nothing(server: Server, made_bundle: Path) -> None:
    client = Client(server.url, offered(made_bundle))
    client.join()
    wrong = f"/{'A' * (len(client.root) - 2)}/"
    for root in ("/", wrong, client.root[:-2] + "/", "/%C3%A9/"):
        for path in ("", "plan.json", "artifacts/0"):
            assert client.request("GET", root + path)[0] == 404
    client.root = wrong
    assert client.send("done", {})[0] == 404
    # A page of another origin that had its own name lead to this machine.
    assert client.request("GET", urlsplit(server.url).path, Host="evil.example")[0] == 400


def test_bad_messages(server: Server, made_bundle: Path) -> None:
    client = Client(server.url, offered(made_bundle))
    client.join()
    task, other, *_ = client.plan.tasks
    good = client.result(task)
    seen = good["seen"]

    def status(message: object, what: str = "result") -> int:
        return client.send(what, message)[0]

    assert status({"task": "nosuch", "failure": "x"}) == 422
    assert status({"task": task}) == 422
    assert status({**good, "failure": "x"}) == 422
    assert status({**good, "more": 1}) == 422
    for change in (
        {"samples_ns": []},
        {"samples_ns": [0]},
        {"samples_ns": [-1]},
        {"samples_ns": ["1"]},
        {"samples_ns": [1.5]},
        {"samples_ns": [10**18]},
        {"samples_ns": [1] * 51},
        {"threads": 0},
        {"threads": True},
        {"details": {"a": "x" * 1000}},
        {"details": {"a": "\x1b[31mred"}},
        {"details": {"<b>": "x"}},
        {"details": {str(i): "x" for i in range(100)}},
        {"first": {"y": "not base64!"}},
        {"first": {"nosuch": ""}},
        {"hidden": [-1]},
    ):
        assert status({"task": task, "seen": {**seen, **change}}) == 422, change
    assert status(b"{") == 422
    assert status(b"\xff\xfe") == 422
    assert status(b"[" * 100_000) == 422
    assert status(b" " * 2_000_000) == 413
    assert status({"task": task, "run": 51}, "progress") == 422
    assert client.post("join", {**client.hello, "name": "a\nb"})[0] == 422
    assert client.post("phones/nosuch/done", {})[0] == 404
    assert client.request("POST", f"{client.root}join", b"{}", **{"Content-Type": "text/plain"})[0] == 415
    assert client.request("DELETE", client.root)[0] == 405
    # After all that: an honest one, again, and another in its place.
    assert status(good) == 200
    assert status(good) == 200
    assert status(client.result(task, samples=[2])) == 409
    assert status(client.result(other)) == 200
    assert client.join() == [task, other]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.sampled_from(["task", "seen", "failure"]), inner),
)


@given(JSON, st.sampled_from([Join, Progress, Result]))
def test_any_json_is_refused_in_the_same_way(document: object, kind: type[Message]) -> None:
    with pytest.raises(ValidationError):
        kind.model_validate_json(json.dumps(document))


def test_slow_senders_keep_nobody_waiting(server: Server, made_bundle: Path) -> None:
    client = Client(server.url, offered(made_bundle))
    client.join()
    address = urlsplit(server.url)
    head = f"POST {client.root}join HTTP/1.1\r\nHost: {address.netloc}\r\nContent-Type: application/json\r\n"
    slow = []
    for number in range(200):
        connection = socket.create_connection((address.hostname, address.port))
        connection.sendall((head + "Content-Length: 50000\r\n\r\n{" if number % 2 else head[:20]).encode())
        slow.append(connection)
    start = time.monotonic()
    for task in client.plan.tasks:
        assert client.send("result", client.result(task))[0] == 200
    assert time.monotonic() - start < 15
    for connection in slow:
        connection.close()


def test_what_is_said_when_it_cannot_start(
    edgeattn: type[Answer], phone_runtimes: Path, made_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = edgeattn
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        answer = run("phone", made_bundle, "--port", port, "--out", tmp_path / "r.json")
    assert answer.code == 2
    assert f"127.0.0.1:{port} cannot be used" in answer.err
    assert run("phone", made_bundle, "--host", "nosuch.invalid", "--out", tmp_path / "r.json").code == 2
    assert run("phone", tmp_path, "--out", tmp_path / "r.json").code == 2
    assert run("phone", made_bundle, "--adb", "--host", "lan").code == 2
    (tmp_path / "bad.json").write_text("{}")
    assert run("phone", made_bundle, "--out", tmp_path / "bad.json").code == 2
    with journal.writing(tmp_path / "r.json"):
        answer = run("phone", made_bundle, "--out", tmp_path / "r.json")
    assert answer.code == 2
    assert "another `edgeattn phone`" in answer.err
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    answer = run("phone", made_bundle, "--out", tmp_path / "r.json")
    assert answer.code == 3
    assert "edgeattn setup phone" in answer.err
    monkeypatch.setenv("PATH", str(tmp_path))
    answer = run("setup", "phone")
    assert answer.code == 3
    assert "npm is not installed" in answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.json"]


def test_a_runtime_with_another_hash_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = setup.data

    def tampered(folder: str) -> Path:
        return tmp_path / "npm" if folder == "npm" else real(folder)

    (tmp_path / "npm").mkdir()
    for file in real("npm").iterdir():
        content = json.loads(file.read_text())
        for package in content.get("packages", {}).values():
            if "integrity" in package:
                package["integrity"] = f"sha512-{'A' * 86}=="
        (tmp_path / "npm" / file.name).write_text(json.dumps(content))
    monkeypatch.setattr(setup, "data", tampered)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingError, match="failed at npm ci"):
        setup.build()


def test_the_certificate_lives_for_days() -> None:
    from cryptography import x509

    found = x509.load_pem_x509_certificate(certificate.make("192.0.2.7")[0])
    assert (found.not_valid_after_utc - found.not_valid_before_utc).days <= 10
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
