"""ExecuTorch files of plain modules and of lowered ones: `python -m benchmarks.delegates`.

What its XNNPACK backend takes, parity, and how much faster the lowered one is: interleaved runs in one process, one
thread. Every model in a process of its own.
"""

import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.by_model import table
from benchmarks.family.models import BY_NAME
from benchmarks.gpu import SAMPLES, built, outputs_of
from edgeattn import deploy
from edgeattn.formats import FORMATS, Job
from edgeattn.formats.graph import in_category
from edgeattn.runtimes import RUNTIMES

FORMAT, RUNTIME = FORMATS.get("executorch"), RUNTIMES.get("executorch")
RUNS = 25


def _cells(path: Path) -> list[str]:
    assert RUNTIME.share is not None
    share = RUNTIME.share(path, "")
    return [f"{share.partitions}, {len(share.left)}", str(len(in_category(FORMAT.read(path).ops, "layout")))]


def measure(name: str) -> list[str]:
    """A row of the table."""
    module, inputs = built(name)
    with tempfile.TemporaryDirectory() as folder:
        stock = Path(folder) / "stock.pte"
        names = tuple(f"y_{number}" for number in range(outputs_of(module, inputs)))
        FORMAT.convert(Job(module, inputs, names), stock)
        bundle = deploy(module, inputs, formats="executorch", out=Path(folder) / "b", name="model")
        (artifact,) = bundle.artifacts
        report = bundle.parity().report
        units = max(row.max_noise_units or 0 for row in report.rows if row.hop == "conversion")
        verdict = f"same ({units:.1f})" if report.passed else "DIFFERENT"
        arrays = {n: x.numpy() for n, x in inputs.items()}
        times: dict[Path, list[float]] = {stock: [], artifact.path: []}
        with RUNTIME.open(stock) as plain, RUNTIME.open(artifact.path) as ours:
            for _ in range(RUNS):
                for path, session in ((stock, plain), (artifact.path, ours)):
                    start = time.perf_counter()
                    session.run(arrays)
                    times[path].append(time.perf_counter() - start)
        ratio = statistics.median(a / b for a, b in zip(times[stock][5:], times[artifact.path][5:], strict=True))
        return [name, *_cells(stock), *_cells(artifact.path), verdict, f"{ratio:.2f} x"]


HEAD = (
    "model",
    "plain: delegates, beside them",
    "layout ops",
    "ours",
    "layout ops",
    "parity (noise units)",
    "faster by",
)

if __name__ == "__main__":
    table("benchmarks.delegates", __doc__ or "", HEAD, measure, [*SAMPLES, *BY_NAME])
