"""What `make` installs is locked by hash, and `make audit` tells a known fault from none, and from no answer."""

import json
import os
import re
import subprocess
import sys
import sysconfig
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.txt", "requirements-torch.txt")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def entries(lock: str) -> list[tuple[Requirement, list[str]]]:
    """The requirements of a lock, each with its hashes."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / lock).read_text()).replace("\\\n", "")
    split = [line.split("--hash=sha256:") for line in text.splitlines()]
    return [(Requirement(requirement), [hash.strip() for hash in hashes]) for requirement, *hashes in split]


LOCKED = {
    canonicalize_name(requirement.name): next(iter(requirement.specifier)).version
    for lock in LOCKS
    for requirement, _ in entries(lock)
    if requirement.marker is None or requirement.marker.evaluate()
}


@pytest.mark.parametrize("lock", LOCKS)
def test_each_package_is_pinned_by_version_and_hash(lock: str) -> None:
    for requirement, hashes in entries(lock):
        assert [pin.operator for pin in requirement.specifier] == ["=="], requirement
        assert hashes, requirement
        assert all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes), requirement
        assert requirement.url is None


def test_the_lock_is_that_of_the_project() -> None:
    """`make` fails where it is not, by pip check; here it is said what `make lock` would mend."""
    project = PROJECT["project"]
    asked = [
        *project["dependencies"],
        *PROJECT["build-system"]["requires"],
        *(one for extra in project["optional-dependencies"].values() for one in extra),
    ]
    for requirement in map(Requirement, asked):
        if requirement.name != project["name"]:
            locked = LOCKED[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(locked, prereleases=True), f"{requirement}, and {locked} is locked"


@pytest.mark.parametrize("extra", sorted(set(PROJECT["project"]["optional-dependencies"]) - {"dev", "docs"}))
def test_each_extra_is_resolved(extra: str, tmp_path: Path) -> None:
    """As uv does it for a user, without downloads: to the newest converter, and not back to an older one."""
    out = tmp_path / "resolved.txt"
    options = ["--no-config", "--quiet", "--python-version", "3.11", "--prerelease", "if-necessary-or-explicit"]
    command = [sys.executable, "-m", "uv", "pip", "compile", *options, "--extra", extra, "--output-file", str(out)]
    done = subprocess.run([*command, "pyproject.toml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = dict(line.split("==") for line in out.read_text().splitlines() if re.match(r"[\w.-]+==\S+$", line))
    asked = [Requirement(each) for each in PROJECT["project"]["optional-dependencies"][extra]]
    for requirement in asked:
        if requirement.name != "edgeattn":
            assert requirement.specifier.contains(found[canonicalize_name(requirement.name)], prereleases=True)
    if "litert-torch" in found:
        assert found["litert-torch"] == LOCKED["litert-torch"]


def test_the_lock_of_the_demo_is_a_part_of_it() -> None:
    whole = {requirement.name: (str(requirement), hashes) for requirement, hashes in entries("requirements.txt")}
    demo = {requirement.name: (str(requirement), hashes) for requirement, hashes in entries("requirements-demo.txt")}
    assert all(whole[name] == entry for name, entry in demo.items())
    sys.path.insert(0, str(ROOT / "tools"))
    try:
        import demo_lock
    finally:
        sys.path.remove(str(ROOT / "tools"))
    assert demo_lock.lock() == (ROOT / "requirements-demo.txt").read_text()
    assert {"onnxruntime", "ai-edge-litert", "coremltools", "matplotlib"} <= demo.keys()
    assert not {"mkdocs", "playwright", "timm", "executorch", "coreai-core"} & demo.keys()


@pytest.mark.skipif(sys.version_info[:2] not in {(3, n) for n in (11, 12, 13)}, reason="the lock is for 3.11 to 3.13")
def test_the_tests_run_on_what_is_locked() -> None:
    # setuptools, once imported, puts the packages that it carries on sys.path.
    here = metadata.distributions(path=sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    installed = {canonicalize_name(one.name): one.version for one in here}
    assert len(installed) > 100
    assert {name: version for name, version in installed.items() if version != LOCKED.get(name, version)} == {}
    assert set(LOCKED) <= set(installed)


@pytest.mark.parametrize("lock", ["edgeattn/phone/npm", "edgeattn/targets/_runner/arm64"])
def test_each_package_of_npm_is_pinned_by_version_and_hash(lock: str) -> None:
    wanted = json.loads((ROOT / lock / "package.json").read_text())["dependencies"]
    packages = json.loads((ROOT / lock / "package-lock.json").read_text())["packages"]
    assert packages.pop("")["dependencies"] == wanted
    assert {name: packages[f"node_modules/{name}"]["version"] for name in wanted} == wanted
    for about in packages.values():
        assert about["integrity"].startswith("sha512-")
        assert "resolved" not in about  # from the user's own registry


def test_pip_refuses_another_file(tmp_path: Path) -> None:
    """The check is pip's; shown once on a wheel of our own and a hash that is not its."""
    wheel = tmp_path / "small-1.0-py3-none-any.whl"
    wheel.write_bytes(b"another file")
    lock = tmp_path / "lock.txt"
    lock.write_text(f"small==1.0 --hash=sha256:{'0' * 64}\n")
    options = ["--no-index", "--no-deps", "--require-hashes", "--find-links", tmp_path, "--target", tmp_path / "t"]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "-r", lock], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stderr
    assert not (tmp_path / "t").exists()


class Advisories(BaseHTTPRequestHandler):
    """What OSV answers, on loopback (https://google.github.io/osv.dev/post-v1-query/): one package has a fault."""

    bad = ""
    asked: ClassVar[dict[str, str]] = {}

    def do_POST(self) -> None:
        query: Any = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        name = query["package"]["name"]
        self.asked[name] = query["version"]
        fault = {
            "id": "OSV-0-STAND-IN",
            "modified": "2026-01-01T00:00:00Z",
            "published": "2026-01-01T00:00:00Z",
            "details": "made up",
            "affected": [{"package": {"name": name, "ecosystem": "PyPI"}, "versions": [query["version"]]}],
        }
        body = json.dumps({"vulns": [fault]} if name == self.bad else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def service() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Advisories) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        Advisories.asked.clear()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def audit(tmp_path: Path, service: str) -> subprocess.CompletedProcess[str]:
    """`make audit`, as it stands there, in this environment."""
    (tmp_path / ".installed").touch()
    own = [
        f"VENV={tmp_path}",
        f"BIN={Path(sys.executable).parent}",
        f"AUDIT=-s osv --osv-url {service} --cache-dir {tmp_path}",
    ]
    command = ["make", "-o", str(tmp_path / ".installed"), "audit", *own]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    return subprocess.run(command, cwd=ROOT, env=clean, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("bad", ["", "pillow", "torch"])
def test_make_audit(bad: str, service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Advisories, "bad", bad)
    done = audit(tmp_path, service)
    assert done.returncode == (2 if bad else 0), done.stdout + done.stderr  # make's own code for a command that failed
    assert bool(re.search(rf"(?m)^{bad} .*OSV-0-STAND-IN", done.stdout)) is bool(bad)
    # Everything is asked for by the version that is locked, PyTorch by its public one.
    assert {canonicalize_name(name): version for name, version in Advisories.asked.items()} == {
        name: version.partition("+")[0] for name, version in LOCKED.items()
    }


def test_no_answer_is_not_taken_for_sound(tmp_path: Path) -> None:
    done = audit(tmp_path, "http://127.0.0.1:9")
    assert done.returncode == 2
    assert "No known vulnerabilities" not in done.stdout + done.stderr
