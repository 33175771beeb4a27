"""What the gate of `edgeattn compare` lets through, and what it stops without a cause: `python -m benchmarks.gate`.

Records are drawn by models of noise, OLD and NEW alike or NEW slower by a factor, and judged as `compare` judges them.
The table says in how many of 100 comparisons NEW is called slower, is over the limit of 1.10 for certain (exit code 1),
or cannot be told. Without a slowdown the first two are false alarms.
"""

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from edgeattn.bundle.records import Device, Record, Subject
from edgeattn.profile.comparison import Limits, compare

Series = npt.NDArray[np.float64]
Noise = Callable[[np.random.Generator, int], Series]
RUNS = 50


def _steady(random: np.random.Generator, n: int) -> Series:
    return 1 + 0.02 * random.standard_normal(n)


def _levels(random: np.random.Generator, n: int) -> Series:
    return _steady(random, n) * random.choice([1.0, 1.6], n)


def _spikes(random: np.random.Generator, n: int) -> Series:
    return _steady(random, n) * np.where(random.random(n) < 0.08, random.uniform(2, 6, n), 1)


def _tail(random: np.random.Generator, n: int) -> Series:
    return np.asarray(1 + 0.1 * random.exponential(size=n))


def _alike(random: np.random.Generator, n: int) -> Series:
    """Autocorrelated: each deviation is 0.9 of the last, and something new."""
    x = [0.1 * random.standard_normal()]
    for new in random.standard_normal(n - 1):
        x.append(0.9 * x[-1] + 0.1 * np.sqrt(1 - 0.81) * new)
    return np.exp(x)


def _starts(random: np.random.Generator, n: int) -> Series:
    return _steady(random, n) * np.exp(0.1 * random.standard_normal())


def _drift(random: np.random.Generator, n: int) -> Series:
    return _steady(random, n) * np.linspace(1, 1 + 0.2 * random.random(), n)


MODELS: dict[str, Noise] = {
    "steady, 2 %": _steady,
    "two levels, 1 and 1.6": _levels,
    "8 % of spikes, 2 to 6 times": _spikes,
    "a long tail": _tail,
    "autocorrelated (0.9), 10 %": _alike,
    "starts differ by 10 %": _starts,
    "a drift of up to 20 %": _drift,
}
_RECORD = Record(
    model="m",
    subject=Subject("m.onnx", "0" * 64, 1000, "onnx", "fp32"),
    target="host",
    origin="host",
    device=Device("d", {}),
    runtime="onnxruntime",
    runtime_version="1",
    versions={},
    threads=1,
    warmup=1,
    samples_ns=(1,),
)


def _record(noise: Noise, random: np.random.Generator, starts: int, factor: float) -> Record:
    times = np.concatenate([1e6 * factor * noise(random, RUNS) for _ in range(starts)])
    return replace(_RECORD, samples_ns=tuple(map(int, times)), starts=(RUNS,) * starts if starts > 1 else ())


def shares(noise: Noise, *, starts: int, factor: float, repeats: int, seed: int = 0) -> dict[str, float]:
    """The share of comparisons in which NEW is called slower, fails, or cannot be told to keep the limit."""
    random = np.random.default_rng(seed)
    found = {"slower": 0, "fails": 0, "can't tell": 0}
    for _ in range(repeats):
        old, new = (_record(noise, random, starts, times) for times in (1.0, factor))
        change = next(c for c in compare(old=[old], new=[new], limits=Limits()).changes if c.quantity == "time")
        found["slower"] += change.verdict == "slower"
        found["fails"] += not change.passed
        found["can't tell"] += bool(change.passed and change.note)
    return {name: number / repeats for name, number in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=400, help="comparisons a row")
    repeats = parser.parse_args().repeats
    print("| noise | starts | NEW is | slower | exit code 1 | can't tell |")
    print("|---|---|---|---|---|---|")
    for name, noise in MODELS.items():
        for starts in (1, 5, 10):
            for factor in (1.0, 1.3):
                row = shares(noise, starts=starts, factor=factor, repeats=repeats)
                words = " | ".join(f"{share:.0%}".replace("%", " %") for share in row.values())
                print(f"| {name} | {starts} | {factor:g} times | {words} |", flush=True)


if __name__ == "__main__":
    main()
