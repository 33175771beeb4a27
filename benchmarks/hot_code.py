"""Where the instructions go: the blocks that the counting plugin counted, summed by function.

LiteRT's library has its symbols. onnxruntime's and ExecuTorch's are stripped: there a function is a range of its unwind
table, named by its address and by the commonest instructions of its hottest block.
"""

import re
import subprocess
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from edgeattn.bundle.records import Counts

TOOLS = "aarch64-linux-gnu-"


@dataclass(frozen=True)
class Block:
    """Instructions that run together; ``address`` is relative to the start of its file."""

    address: int
    runs: int
    counts: Counts


@dataclass(frozen=True)
class Function:
    """The instructions of one function, over all counted runs; ``library`` is a file's name."""

    library: str
    name: str
    counts: Counts


def functions(blocks: Path) -> list[Function]:
    """The functions in the file that the plugin wrote, those with the most instructions first."""
    result: list[Function] = []
    for library, inside in _by_library(blocks.read_text().splitlines()).items():
        starts, names = _symbols(library)
        grouped: defaultdict[int, list[Block]] = defaultdict(list)
        for block in inside:
            grouped[bisect_right(starts, block.address) - 1].append(block)
        for index, members in grouped.items():
            counts = Counts(
                sum(b.runs * b.counts.total for b in members),
                sum(b.runs * b.counts.simd for b in members),
                sum(b.runs * b.counts.memory for b in members),
            )
            hottest = max(members, key=lambda b: b.runs * b.counts.total)
            name = names[index] if index >= 0 else ""
            result.append(Function(library.name, name or _describe(library, starts[index], hottest), counts))
    return sorted(result, key=lambda function: -function.counts.total)


def _by_library(lines: Iterable[str]) -> dict[Path, list[Block]]:
    maps: list[tuple[int, int, Path]] = []
    raw: list[tuple[int, ...]] = []
    for line in lines:
        if line.startswith("0x"):
            address, *numbers = line.split()
            raw.append((int(address, 16), *map(int, numbers)))
        elif path := re.search(r"/.*", line):
            start, end = (int(part, 16) for part in line.split()[0].split("-"))
            maps.append((start, end, Path(path[0])))
    bases: dict[Path, int] = {}
    for start, _, path in maps:
        bases[path] = min(start, bases.get(path, start))
    maps.sort()
    starts = [start for start, _, _ in maps]
    blocks: defaultdict[Path, list[Block]] = defaultdict(list)
    for address, runs, total, simd, memory in raw:
        _, end, path = maps[bisect_right(starts, address) - 1]
        if address < end:
            blocks[path].append(Block(address - bases[path], runs, Counts(total, simd, memory)))
    return blocks


def _symbols(library: Path) -> tuple[list[int], list[str]]:
    """Starts of functions and their names, sorted; a name is "" where the file has none."""
    names: dict[int, str] = {}
    for line in _tool("readelf", "--wide", "--debug-dump=frames", library):
        if match := re.search(r"FDE .* pc=([0-9a-f]+)\.\.", line):
            names[int(match[1], 16)] = ""
    for line in (*_tool("nm", "-D", "--defined-only", library), *_tool("nm", "--defined-only", library)):
        address, kind, name = line.split(maxsplit=2)
        if kind in "tTwW" and not name.startswith("$"):
            names[int(address, 16)] = name.split("@")[0]
    starts = sorted(names)
    return starts, [names[start] for start in starts]


def _describe(library: Path, start: int, hottest: Block) -> str:
    lines = _tool(
        "objdump", "--disassemble", "--no-show-raw-insn", f"--start-address={hottest.address:#x}",
        f"--stop-address={hottest.address + 4 * hottest.counts.total:#x}", library,
    )  # fmt: skip
    words = Counter(line.split()[1] for line in lines if re.match(r"\s*[0-9a-f]+:\s", line))
    return f"{start:#x} ({', '.join(f'{n} {word}' for word, n in words.most_common(3))})"


def _tool(name: str, *arguments: object) -> list[str]:
    command = [TOOLS + name, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
