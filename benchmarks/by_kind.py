"""Where onnxruntime's time goes, by kind of operator: `OMP_NUM_THREADS=1 python benchmarks/by_kind.py FILE.onnx...`.

One thread, random inputs. Of each node the smallest time of all runs counts, summed by kind: the graph is the one that
onnxruntime makes of the file, and a disturbance of the machine has no part in it.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnxruntime

RUNS = 30


def smallest(path: Path) -> dict[tuple[str, str], float]:
    """Milliseconds by (kind, name) of each node."""
    with TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(folder, "p"))
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        random = np.random.default_rng(0)
        inputs = {x.name: random.standard_normal(x.shape).astype(np.float32) for x in session.get_inputs()}
        for _ in range(RUNS):
            session.run(None, inputs)
        events = json.loads(Path(session.end_profiling()).read_text())
    times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            times[event["args"]["op_name"], event["name"]].append(event["dur"] / 1000)
    return {node: min(values) for node, values in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--kinds", type=int, default=12, help="as many of the slowest")
    options = parser.parse_args()
    for path in options.files:
        times = smallest(path)
        total, by_kind, number = sum(times.values()), defaultdict[str, float](float), Counter(kind for kind, _ in times)
        for (kind, _), ms in times.items():
            by_kind[kind] += ms
        print(f"\n{path.name}: {total:.2f} ms\n\n| kind | nodes | ms | share |\n|---|---|---|---|")
        for kind, ms in sorted(by_kind.items(), key=lambda item: -item[1])[: options.kinds]:
            print(f"| {kind} | {number[kind]} | {ms:.2f} | {ms / total:.0%} |")


if __name__ == "__main__":
    main()
