"""Fault injection: kill -9 at twenty points, a full disk, a read-only folder, two processes at once, and odd names.

Run `python benchmarks/faults.py` as root (it mounts disks), or name some of the functions in ``ALL``. A kill point is
right before an event of Python's audit hook (a file is opened, a folder made, a rename, an import, ...), from the first
write on. One run counts the events. Ten runs are killed at points spread over all events, and ten right before or
after the last renames, which publish results.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from edgeattn.bundle import manifest as bundles
from edgeattn.bundle import records

ROOT = Path(__file__).parent.parent
POINTS = 20
WRITES = ("tempfile.mkdtemp", "tempfile.mkstemp", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "shutil.rmtree")
KILLED = f"""
import os, signal, sys
point, events, renames = int(sys.argv.pop(1)), 0, []
def hook(event, arguments):
    global events
    write = event in {WRITES!r} or event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    events += bool(events or write)
    if event == "os.rename":
        renames.append(events)
    if events and events == point:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from edgeattn.cli import main as cli
try:
    cli.main()
finally:
    print("events", events, *renames, file=sys.stderr)
"""
MODEL = ("attention", "--arg", "embed_dim=8", "--arg", "pixels=4", "--arg", "patches=4", "--format", "onnx")


def edgeattn(*arguments: object, point: int = 0, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command; kill it at event number ``point`` (0: never)."""
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(point), *map(str, arguments)]
    settled = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    env = {**os.environ, **settled, **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def points(done: "subprocess.CompletedProcess[str]") -> tuple[list[int], str]:
    """The kill points of a command, from the events of a complete run; and a description of these events."""
    total, *renames = map(int, done.stderr.rsplit("events ", 1)[1].split())
    half = POINTS // 2
    around = [point for rename in renames for point in (rename, rename + 1)]
    chosen = [
        candidates[number * (len(candidates) - 1) // (half - 1)]
        for candidates in (range(1, total + 1), around[-half:])
        for number in range(half)
    ]
    return chosen, f"{total:,} events, {len(renames)} of them renames"


def whole(folder: Path) -> str:
    """ "none", or "whole"; a half bundle raises."""
    if not (folder / bundles.MANIFEST).exists():
        return "none"
    bundles.load(folder)
    return "whole"


def killed(
    name: str, command: tuple[object, ...], prepare: Callable[[Path], None], state_of: Callable[[Path], str]
) -> None:
    """Kill ``command`` at every point, and count the states that it leaves; then it must work again."""
    states: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        prepare(folder)
        first = edgeattn(*command, cwd=folder)
        assert first.returncode == 0, first.stderr
        chosen, counted = points(first)
        for point in chosen:
            for entry in folder.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            prepare(folder)
            done = edgeattn(*command, point=point, cwd=folder)
            assert done.returncode == -signal.SIGKILL, done.stderr
            state = state_of(folder)
            states[state] = states.get(state, 0) + 1
        again = edgeattn(*command, cwd=folder)
        assert again.returncode == 0 or "give --force" in again.stderr, again.stderr
    print(f"kill -9, {name}: {len(chosen)} of {counted}; left: {states}; the same command then works", flush=True)


def _nothing(folder: Path) -> None:
    return


def _bundle(folder: Path) -> None:
    assert edgeattn("export", *MODEL, "--out", "b", cwd=folder).returncode == 0


def export() -> None:
    killed("export", ("export", *MODEL, "--out", "b"), _nothing, lambda folder: whole(folder / "b"))


def force() -> None:
    """The old or the new bundle is whole, under its name or, between two renames, beside it."""

    def state_of(folder: Path) -> str:
        if whole(folder / "b") == "whole":
            return "whole"
        return f"whole beside, {whole(next(folder.glob('.b.old.*')) / 'bundle')}"

    with tempfile.TemporaryDirectory() as made:
        _bundle(Path(made))

        def prepare(folder: Path) -> None:
            shutil.copytree(Path(made) / "b", folder / "b")

        killed("export --force", ("export", *MODEL, "--out", "b", "--force"), prepare, state_of)


def profile() -> None:
    """The old file of records, or the new one."""
    with tempfile.TemporaryDirectory() as made:
        _bundle(Path(made))
        command = ("profile", "b", "--runs", "3", "--warmup", "1", "--out", "r.json")
        assert edgeattn(*command, cwd=Path(made)).returncode == 0

        def prepare(folder: Path) -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)

        def state_of(folder: Path) -> str:
            records.load(folder / "r.json")
            return "whole"

        killed("profile --out over an older file", command, prepare, state_of)


def report() -> None:
    written("report --out over an older file", ("report", "b", "r.json", "--out", "report.html"), "report.html")


def parity() -> None:
    outs = ("junit.xml", "summary.md", "layers.svg")
    options = [text for pair in zip(("--junit", "--markdown", "--picture"), outs, strict=True) for text in pair]
    written("parity --junit --markdown --picture over older files", ("parity", "b", *options), *outs)


def written(name: str, command: tuple[str, ...], *outs: str) -> None:
    """Each output is the older or the new file, whole; the bundle and the records that are read do not change."""
    older = b"older"
    with tempfile.TemporaryDirectory() as made:
        _bundle(Path(made))
        measure = ("profile", "b", "--runs", "3", "--warmup", "1", "--out", "r.json")
        for arguments in (measure, command):
            assert edgeattn(*arguments, cwd=Path(made)).returncode == 0
        new = _contents(Path(made))

        def prepare(folder: Path) -> None:
            shutil.copytree(made, folder, dirs_exist_ok=True)
            for out in outs:
                (folder / out).write_bytes(older)

        def state_of(folder: Path) -> str:
            contents = {
                path: content for path, content in _contents(folder).items() if not path.startswith(".edgeattn.")
            }
            states = ["older" if contents[out] == older else "new" for out in outs]
            assert contents == new | {out: older for out, state in zip(outs, states, strict=True) if state == "older"}
            return ", ".join(states)

        killed(name, command, prepare, state_of)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def disk() -> None:
    """A small tmpfs of increasing size, and a read-only one."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        _bundle(folder)
        size = sum(file.stat().st_size for file in (folder / "b").rglob("*"))
        mount = folder / "disk"
        mount.mkdir()
        states: dict[str, int] = {}
        for number in range(POINTS):
            kib = max(4, number * size // (POINTS - 1) // 1024)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", mount], check=True)
            try:
                done = edgeattn("export", *MODEL, "--out", "disk/b", cwd=folder)
                sentence = done.stderr.count("\n") == 2 and "disk/b cannot be written: No space left" in done.stderr
                state = {0: "whole", 2: "one sentence, nothing left"}[done.returncode]
                assert done.returncode == 0 or (sentence and not list(mount.iterdir())), done.stderr
                assert whole(mount / "b") == ("whole" if done.returncode == 0 else "none")
            finally:
                subprocess.run(["umount", mount], check=True)
            states[state] = states.get(state, 0) + 1
        print(f"disk full, {POINTS} sizes up to {size >> 10} KiB: {states}")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", mount], check=True)
        try:
            for command in (("export", *MODEL, "--out", "disk/b"), ("profile", "b", "--runs", "1", "--out", "disk/r")):
                done = edgeattn(*command, cwd=folder)
                assert done.returncode == 2, done.stderr
                assert "cannot be written" in done.stderr
                assert done.stderr.count("\n") == 2
        finally:
            subprocess.run(["umount", mount], check=True)
        print("read-only folder: export and profile --out refuse before they work")


def two() -> None:
    """Two exports into one folder at once, without and with --force, five times each."""
    for flag in ((), ("--force",)):
        codes: list[list[int]] = []
        for _ in range(5):
            with tempfile.TemporaryDirectory() as scratch:
                command = [
                    sys.executable,
                    "-W",
                    "ignore",
                    "-m",
                    "edgeattn.cli.main",
                    "export",
                    *MODEL,
                    "--out",
                    f"{scratch}/b",
                ]
                env = {**os.environ, "PYTHONPATH": str(ROOT)}
                if flag:
                    _bundle(Path(scratch))
                both = [subprocess.Popen([*command, *flag], cwd=ROOT, env=env, stdout=subprocess.DEVNULL,
                                         stderr=subprocess.PIPE, text=True) for _ in range(2)]  # fmt: skip
                messages = [process.communicate()[1] for process in both]
                assert not any("Traceback" in text for text in messages), messages
                assert whole(Path(scratch) / "b") == "whole"
                assert [p.name for p in Path(scratch).iterdir()] == ["b"]
                codes.append(sorted(process.returncode for process in both))
        print(f"two at once{' with --force' if flag else ''}: exit codes {codes}; one whole bundle, nothing beside")


NAMES = ("a b", "it's", 'q"q', "новый-バンドル", "-dash", "x" * 255, "$(touch pwned)", "a\nb", "[red]", "é" * 127)


def names() -> None:
    """A bundle and a file of records of each name."""
    for name in NAMES:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for command in (
                ("export", *MODEL, f"--out={name}", "--json"),
                ("parity", "--json", "--", name),
                ("profile", "--runs=1", f"--out={name}/r.json", "--json", "--", name),
            ):
                done = edgeattn(*command, cwd=folder)
                assert done.returncode == 0, (name, done.stderr)
                json.loads(done.stdout)
            records.load(folder / name / "r.json")
            assert [p.name for p in folder.iterdir()] == [name]
    with tempfile.TemporaryDirectory() as scratch:
        done = edgeattn("export", *MODEL, "--out", "x" * 256, cwd=Path(scratch))
        assert done.returncode == 2, done.stderr
        assert "File name too long" in done.stderr
    print(
        f"names: {len(NAMES)} odd ones export, pass parity and are measured; one of 256 bytes is refused in a sentence"
    )


def setup() -> None:
    """`setup emulated-arm` in an empty cache; a run that is killed leaves no incomplete emulator."""

    def state(folder: Path, *options: str) -> str:
        entry: str = json.loads(edgeattn("doctor", "--json", *options, cwd=folder).stdout)["targets"]["emulated-arm"]
        return entry.split(":")[0].split(" (")[0]

    def state_of(folder: Path) -> str:
        return state(folder) if state(folder, "--quick") == "ready" else "not set up"

    with tempfile.TemporaryDirectory() as wheels:

        def prepare(folder: Path) -> None:
            # Downloads are shared: the kill points test the build.
            os.environ.update(XDG_CACHE_HOME=str(folder / "cache"), PIP_CACHE_DIR=wheels)

        killed("setup emulated-arm", ("setup", "emulated-arm"), prepare, state_of)


ALL = {
    "export": export,
    "force": force,
    "profile": profile,
    "report": report,
    "parity": parity,
    "disk": disk,
    "two": two,
    "names": names,
    "setup": setup,
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or ALL:
        ALL[chosen]()
