"""What is left after a kill -9 at twenty points, on a full disk, in a read-only folder, of two processes at once and of
odd names: `python benchmarks/faults.py`, as root, for the disks; or a part of it, each function named in ``ALL``.

A point is right before an event of Python's own audit (a file opened, a folder made, a rename, an import, ...), from
the first one that writes on: one run counts them. The others are killed at ten that are spread over all, and ten times
right before and right after the last renames, by which results are published.
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
point, seen, renames = int(sys.argv.pop(1)), 0, []
def hook(event, arguments):
    global seen
    write = event in {WRITES!r} or event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR)
    seen += bool(seen or write)
    if event == "os.rename":
        renames.append(seen)
    if seen and seen == point:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(hook)
from edgeattn.cli import main as cli
try:
    cli.main()
finally:
    print("events", seen, *renames, file=sys.stderr)
"""
MODEL = ("attention", "--arg", "embed_dim=8", "--arg", "pixels=4", "--arg", "patches=4", "--format", "onnx")


def edgeattn(*arguments: object, point: int = 0, cwd: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    """The command, killed at its event number ``point`` (0 is never)."""
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(point), *map(str, arguments)]
    settled = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    env = {**os.environ, **settled, **environment}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def points(done: "subprocess.CompletedProcess[str]") -> tuple[list[int], str]:
    """Where the same command is to be killed, of what a whole run said of its events; and how many those were."""
    total, *renames = map(int, done.stderr.rsplit("events ", 1)[1].split())
    half = POINTS // 2
    around = [place for rename in renames for place in (rename, rename + 1)]
    chosen = [
        places[number * (len(places) - 1) // (half - 1)]
        for places in (range(1, total + 1), around[-half:])
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
    name: str, command: tuple[object, ...], prepare: Callable[[Path], None], left: Callable[[Path], str]
) -> None:
    """Kill ``command`` at every point and say how often what was left; it has to work again right after."""
    found: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        prepare(place)
        first = edgeattn(*command, cwd=place)
        assert first.returncode == 0, first.stderr
        chosen, counted = points(first)
        for point in chosen:
            for entry in place.iterdir():
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
            prepare(place)
            done = edgeattn(*command, point=point, cwd=place)
            assert done.returncode == -signal.SIGKILL, done.stderr
            state = left(place)
            found[state] = found.get(state, 0) + 1
        again = edgeattn(*command, cwd=place)
        assert again.returncode == 0 or "give --force" in again.stderr, again.stderr
    print(f"kill -9, {name}: {len(chosen)} of {counted}; left: {found}; the same command then works", flush=True)


def _nothing(place: Path) -> None:
    return


def _bundle(place: Path) -> None:
    assert edgeattn("export", *MODEL, "--out", "b", cwd=place).returncode == 0


def export() -> None:
    killed("export", ("export", *MODEL, "--out", "b"), _nothing, lambda place: whole(place / "b"))


def force() -> None:
    """The old bundle or the new one stands whole, under its name or, between two renames, beside it."""

    def left(place: Path) -> str:
        if whole(place / "b") == "whole":
            return "whole"
        return f"whole beside, {whole(next(place.glob('.b.old.*')) / 'bundle')}"

    with tempfile.TemporaryDirectory() as made:
        _bundle(Path(made))

        def prepare(place: Path) -> None:
            shutil.copytree(Path(made) / "b", place / "b")

        killed("export --force", ("export", *MODEL, "--out", "b", "--force"), prepare, left)


def profile() -> None:
    """The old file of records, or the new one."""
    with tempfile.TemporaryDirectory() as made:
        _bundle(Path(made))
        command = ("profile", "b", "--runs", "3", "--warmup", "1", "--out", "r.json")
        assert edgeattn(*command, cwd=Path(made)).returncode == 0

        def prepare(place: Path) -> None:
            shutil.copytree(made, place, dirs_exist_ok=True)

        def left(place: Path) -> str:
            records.load(place / "r.json")
            return "whole"

        killed("profile --out over an older file", command, prepare, left)


def report() -> None:
    written("report --out over an older file", ("report", "b", "r.json", "--out", "report.html"), "report.html")


def parity() -> None:
    outs = ("junit.xml", "summary.md", "layers.svg")
    options = [text for pair in zip(("--junit", "--markdown", "--picture"), outs, strict=True) for text in pair]
    written("parity --junit --markdown --picture over older files", ("parity", "b", *options), *outs)


def written(name: str, command: tuple[str, ...], *outs: str) -> None:
    """In each place stands the older file or the new one, whole; the bundle and the records that are read are kept."""
    older = b"older"
    with tempfile.TemporaryDirectory() as made:
        _bundle(Path(made))
        measure = ("profile", "b", "--runs", "3", "--warmup", "1", "--out", "r.json")
        for each in (measure, command):
            assert edgeattn(*each, cwd=Path(made)).returncode == 0
        new = _contents(Path(made))

        def prepare(place: Path) -> None:
            shutil.copytree(made, place, dirs_exist_ok=True)
            for out in outs:
                (place / out).write_bytes(older)

        def left(place: Path) -> str:
            found = {path: content for path, content in _contents(place).items() if not path.startswith(".edgeattn.")}
            states = ["older" if found[out] == older else "new" for out in outs]
            assert found == new | {out: older for out, state in zip(outs, states, strict=True) if state == "older"}
            return ", ".join(states)

        killed(name, command, prepare, left)


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def disk() -> None:
    """A small tmpfs of ever more bytes; and one that is read-only."""
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        _bundle(place)
        size = sum(file.stat().st_size for file in (place / "b").rglob("*"))
        mount = place / "disk"
        mount.mkdir()
        found: dict[str, int] = {}
        for number in range(POINTS):
            kib = max(4, number * size // (POINTS - 1) // 1024)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", mount], check=True)
            try:
                done = edgeattn("export", *MODEL, "--out", "disk/b", cwd=place)
                sentence = done.stderr.count("\n") == 2 and "disk/b cannot be written: No space left" in done.stderr
                state = {0: "whole", 2: "one sentence, nothing left"}[done.returncode]
                assert done.returncode == 0 or (sentence and not list(mount.iterdir())), done.stderr
                assert whole(mount / "b") == ("whole" if done.returncode == 0 else "none")
            finally:
                subprocess.run(["umount", mount], check=True)
            found[state] = found.get(state, 0) + 1
        print(f"disk full, {POINTS} sizes up to {size >> 10} KiB: {found}")
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", mount], check=True)
        try:
            for command in (("export", *MODEL, "--out", "disk/b"), ("profile", "b", "--runs", "1", "--out", "disk/r")):
                done = edgeattn(*command, cwd=place)
                assert done.returncode == 2, done.stderr
                assert "cannot be written" in done.stderr
                assert done.stderr.count("\n") == 2
        finally:
            subprocess.run(["umount", mount], check=True)
        print("read-only folder: export and profile --out refuse before they work")


def two() -> None:
    """Two exports into one place at once, without and with --force, five times each."""
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
                said = [process.communicate()[1] for process in both]
                assert not any("Traceback" in text for text in said), said
                assert whole(Path(scratch) / "b") == "whole"
                assert [p.name for p in Path(scratch).iterdir()] == ["b"]
                codes.append(sorted(process.returncode for process in both))
        print(f"two at once{' with --force' if flag else ''}: exit codes {codes}; one whole bundle, nothing beside")


NAMES = ("a b", "it's", 'q"q', "новый-バンドル", "-dash", "x" * 255, "$(touch pwned)", "a\nb", "[red]", "é" * 127)


def names() -> None:
    """A bundle and a file of records of each name."""
    for name in NAMES:
        with tempfile.TemporaryDirectory() as scratch:
            place = Path(scratch)
            for command in (
                ("export", *MODEL, f"--out={name}", "--json"),
                ("parity", "--json", "--", name),
                ("profile", "--runs=1", f"--out={name}/r.json", "--json", "--", name),
            ):
                done = edgeattn(*command, cwd=place)
                assert done.returncode == 0, (name, done.stderr)
                json.loads(done.stdout)
            records.load(place / name / "r.json")
            assert [p.name for p in place.iterdir()] == [name]
    with tempfile.TemporaryDirectory() as scratch:
        done = edgeattn("export", *MODEL, "--out", "x" * 256, cwd=Path(scratch))
        assert done.returncode == 2, done.stderr
        assert "File name too long" in done.stderr
    print(
        f"names: {len(NAMES)} odd ones export, pass parity and are measured; one of 256 bytes is refused in a sentence"
    )


def setup() -> None:
    """`setup emulated-arm` in a cache of its own; a run that is killed leaves no emulator that is taken for whole."""

    def state(place: Path, *options: str) -> str:
        found: str = json.loads(edgeattn("doctor", "--json", *options, cwd=place).stdout)["targets"]["emulated-arm"]
        return found.split(":")[0].split(" (")[0]

    def left(place: Path) -> str:
        return state(place) if state(place, "--quick") == "ready" else "not set up"

    with tempfile.TemporaryDirectory() as wheels:

        def prepare(place: Path) -> None:
            # What is downloaded is kept: the points are about what is built of it.
            os.environ.update(XDG_CACHE_HOME=str(place / "cache"), PIP_CACHE_DIR=wheels)

        killed("setup emulated-arm", ("setup", "emulated-arm"), prepare, left)


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
