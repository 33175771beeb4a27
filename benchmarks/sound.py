"""Nothing sound is killed: 200 random configurations of the layer pass parity in every format: `make bench-sound`.

Results go to a file of JSON lines, one a configuration; a stopped run resumes.
"""

import json
import platform
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch

from edgeattn.export import pipeline, source

NUMBER = 200
RESULTS = Path("build/sound.jsonl")


@dataclass(frozen=True)
class Configuration:
    """``weight_scale`` and ``input_scale`` multiply every parameter and every input."""

    embed_dim: int
    pixels: int
    patches: int
    bias: bool
    cross: bool
    weight_scale: float
    input_scale: float


@dataclass(frozen=True)
class Result:
    """``noise_units`` is the largest error of the second hop by format; refused are converters that gave no file."""

    number: int
    configuration: Configuration
    passed: bool
    noise_units: dict[str, float]
    refused: dict[str, str]
    reasons: tuple[str, ...]


def configuration(number: int) -> Configuration:
    """The same one for a number, always."""
    random = np.random.default_rng(number)
    return Configuration(
        embed_dim=int(2 ** random.uniform(0, 8)),
        pixels=int(random.choice([1, 2, 4, 9])),
        patches=int(2 ** random.uniform(0, 8)),
        bias=bool(random.integers(2)),
        cross=bool(random.integers(2)),
        weight_scale=float(10 ** random.uniform(-2, 1)),
        input_scale=float(10 ** random.uniform(-3, 2)),
    )


def check(number: int) -> Result:
    """Export one configuration to a bundle in a scratch folder, in all formats, and see whether it passes."""
    c = configuration(number)
    names = ("embed_dim", "pixels", "patches", "bias", "cross")
    loaded = source.load("attention", [f"{name}={getattr(c, name)}" for name in names], seed=number)
    with torch.no_grad():
        for parameter in loaded.module.parameters():
            parameter.mul_(c.weight_scale)
    inputs = {name: x * c.input_scale for name, x in loaded.inputs.items()}
    outputs = dict(zip(loaded.outputs, source.run(loaded.module, inputs), strict=True))
    with tempfile.TemporaryDirectory() as folder:
        made = pipeline.export(
            replace(loaded, inputs=inputs, outputs=outputs), pipeline.Options(), Path(folder) / "bundle"
        )
    formats = {artifact.file.path: artifact.format for artifact in made.bundle.manifest.artifacts}
    noise: dict[str, float] = {}
    for row in made.report.rows:
        if row.hop == "conversion" and row.max_noise_units is not None:
            name = formats[row.candidate]
            noise[name] = max(noise.get(name, 0.0), row.max_noise_units)
    reasons = tuple(f"{row.candidate}: {row.reason}" for row in made.report.rows if not row.passed)
    return Result(number, c, made.report.passed and not made.refused, noise, made.refused, reasons)


def main() -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    done = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []
    with RESULTS.open("a") as file:
        for number in sorted(set(range(NUMBER)) - {result["number"] for result in done}):
            result = asdict(check(number))
            done.append(result)
            file.write(json.dumps(result) + "\n")
            file.flush()
            print(f"\r{len(done)} of {NUMBER}", end="", flush=True)
    print(f"\n\n{sum(r['passed'] for r in done)} of {len(done)} configurations pass; {platform.machine()}\n")
    print("| format | exported | largest error, noise units | 99 % are below |")
    print("|---|---|---|---|")
    for name in sorted({name for result in done for name in result["noise_units"]}):
        units = [result["noise_units"][name] for result in done if name in result["noise_units"]]
        print(f"| {name} | {len(units)} | {max(units):.1f} | {np.quantile(units, 0.99):.1f} |")
    for result in done:
        if not result["passed"]:
            print(f"\n{result['configuration']}: {result['reasons'] or result['refused']}")


if __name__ == "__main__":
    main()
