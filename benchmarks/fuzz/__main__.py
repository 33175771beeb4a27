"""A long run: `python -m benchmarks.fuzz [READER=NUMBER ...] [--folder FOLDER]`. It resumes a stopped run."""

import argparse
import time
from collections import Counter
from pathlib import Path

from . import pool, seeds
from .readers import READERS, met

# At least 10,000 for each reader, 200,000 in all; the fast ones get the rest. A report is drawn, which takes a second.
MORE = {"records": 40_000, "worker": 50_000, "native": 40_000, "manifest": 20_000, "judged": 50_000, "compared": 50_000}
NUMBERS = dict.fromkeys(READERS, 10_000) | MORE | {"report": 2_000, "users": 2_000}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("reader", nargs="*", help=f"READER or READER=NUMBER; of {', '.join(READERS)}")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="for seeds and outcomes")
    options = parser.parse_args()
    wanted = dict(NUMBERS)
    if options.reader:
        pairs = [text.partition("=") for text in options.reader]
        wanted = {name: int(number) if number else NUMBERS[name] for name, _, number in pairs}
    folder: Path = options.folder.absolute()
    if not (folder / "seeds").is_dir():
        seeds.make(folder / "seeds.part")
        (folder / "seeds.part").rename(folder / "seeds")
    total, bad = 0, 0
    print("| reader | inputs | values | refused | crashed apart | other | a second |\n|---|---|---|---|---|---|---|")
    for name, number in wanted.items():
        log = folder / f"{name}.txt"
        known = len(log.read_text().splitlines()) if log.exists() else 0
        begin = time.perf_counter()
        if known < number:
            inputs = ((name, n) for n in range(known + 1, number + 1))
            with log.open("a") as out:
                for _, done, message in pool.outcomes(folder / "seeds", inputs, [name]):
                    out.write(f"{done} {message}\n")
                    out.flush()
        rate = f"{(number - known) / (time.perf_counter() - begin):.0f}" if known < number else "-"
        lines = [line.split(" ", 2) for line in log.read_text().splitlines()]
        kinds = Counter(kind for _, kind, *_ in lines)
        # Where a library may crash, the commands call it in a separate process: repeat these inputs in that way.
        crashed = [int(number_of_input) for number_of_input, kind, *_ in lines if kind == "CRASH"]
        apart = sum(met(folder / "seeds", name, number_of_input) for number_of_input in crashed)
        failures = kinds.total() - kinds["value"] - kinds["refused"] - apart
        counts = (kinds.total(), kinds["value"], kinds["refused"], apart, failures)
        print(f"| {name} | {' | '.join(f'{count:,}' for count in counts)} | {rate} |", flush=True)
        total, bad = total + kinds.total(), bad + failures
    print(f"\n{total:,} inputs, {bad} that were not met with a value or one sentence")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
