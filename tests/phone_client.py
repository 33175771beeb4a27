"""A phone without a browser: it says what the page would say, to a server that was started as a user starts it."""

import base64
import http.client
import json
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgeattn.bundle import manifest as bundles
from edgeattn.phone.plan import Plan, make_plan

ANDROID = {
    "name": "Pixel 9, Chrome 150",
    "platform": "Linux armv81",
    "mobile": True,
    "details": {"browser": "Chrome 150", "processors": "8"},
}


@dataclass
class Server:
    """A running ``edgeattn phone``; ``url`` is what it says that one should open."""

    process: subprocess.Popen[str]
    url: str

    def wait(self, seconds: float = 60) -> tuple[int, dict[str, Any], str]:
        """Exit code, the JSON document and stderr, once it has stopped by itself."""
        out, err = self.process.communicate(timeout=seconds)
        return self.process.returncode, json.loads(out), err

    def interrupt(self) -> tuple[int, dict[str, Any], str]:
        self.process.send_signal(signal.SIGINT)
        return self.wait()


@contextmanager
def serving(*arguments: object, before: Sequence[str] = ()) -> Iterator[Server]:
    """``edgeattn phone`` in a process of its own, started by the words ``before`` (another network, for instance)."""
    words = [*before, sys.executable, "-m", "edgeattn.cli.main", "phone", *map(str, arguments), "--json"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ) as process:
        try:
            assert process.stderr
            lines = ""
            end = time.monotonic() + 30
            while not (found := re.search(r"Open (\S+)", lines)):
                ready, _, _ = select.select([process.stderr], [], [], max(0, end - time.monotonic()))
                line = process.stderr.readline() if ready else ""
                assert line, f"it does not start: {lines}"
                lines += line
            yield Server(process, found[1])
        finally:
            if process.poll() is None:
                process.kill()


def offered(bundle: Path) -> Plan:
    """What the server offers of a bundle."""
    return make_plan(bundles.load(bundle), runs=10_000, runtime_versions={})


class Client:
    """One phone. ``changes`` go over :data:`ANDROID`."""

    def __init__(self, url: str, plan: Plan, **changes: Any) -> None:
        parts = urlsplit(url)
        self.host, self.root = parts.netloc, parts.path
        self.plan = plan
        self.hello = {**ANDROID, **changes}
        self.session = ""

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(self.host, timeout=60)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, message: Any) -> tuple[int, dict[str, Any]]:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        status, content = self.request("POST", self.root + path, body, **{"Content-Type": "application/json"})
        return status, json.loads(content)

    def join(self) -> list[str]:
        """The keys of the tasks that are done."""
        status, answer = self.post("join", {**self.hello, "session": self.session or None})
        assert status == 200, answer
        self.session = answer["session"]
        return list(answer["done"])

    def send(self, what: str, message: Any) -> tuple[int, dict[str, Any]]:
        return self.post(f"phones/{self.session}/{what}", message)

    def result(self, task: str, *, samples: Sequence[int] = (1_000_000,), **changes: Any) -> dict[str, Any]:
        """The message of an honest phone: the outputs are those of the reference."""
        artifact, case = self.plan.artifacts[self.plan.tasks[task].artifact], self.plan.other(self.plan.tasks[task])
        outputs = {name: encoded(value.tobytes()) for name, value in self.plan.outputs(artifact).items()}
        other = {name: encoded(value.tobytes()) for name, value in self.plan.outputs(artifact, case).items()}
        seen = {
            "threads": 1,
            "warmup": 5,
            "warmup_ns": 10,
            "samples_ns": list(samples),
            "calls_per_sample": 1,
            "clock_step_ns": 100_000,
            "load_ns": 1_000,
            "first_run_ns": 1_000,
            "first": outputs,
            "other": other if case else {},
            "last": outputs,
            **changes,
        }
        return {"task": task, "seen": seen}


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()
