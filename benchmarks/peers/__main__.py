"""`make bench-peers`: one table of everybody's form and converter against ours; what fails is shown with its error.

The peers' environments and files are made once, in ~/.cache/edgeattn/peers (XDG_CACHE_HOME counts); ours is converted
anew each time. Exits with 1 if our own outputs are not those of the reference.
"""

import json
import os
import platform
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.peers import convert
from benchmarks.peers.measure import Row, measure
from benchmarks.peers.table import table


def main(
    runs: Annotated[int, typer.Option(min=1, help="Interleaved rounds after the warm-up.")] = 100,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the raw samples to this file.")] = None,
) -> None:
    """Measure MobileViTv2-1.0 and its attention, ours and the peers', and print Markdown."""
    torch.set_num_threads(1)
    print(f"fp32, one thread, {runs} interleaved rounds; {platform.machine()}, {platform.system()}")
    print(", ".join(f"{name} {version}" for name, version in convert.all_versions().items()))
    measured: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for make in (convert.whole_model, convert.attention):
            subject, candidates = make(Path(folder))
            measured[subject.title] = measure(subject, candidates, runs=runs)
            print(f"\n## {subject.title}\n\n{table(measured[subject.title])}", flush=True)
    if json_file is not None:
        document = {
            "schema_version": 1,
            "machine": platform.platform(),
            "versions": convert.all_versions(),
            "runs": runs,
            "rows": {title: [asdict(row) for row in rows] for title, rows in measured.items()},
        }
        write(json_file, document)
    ours = [row for rows in measured.values() for row in rows if row.candidate.form == convert.OURS]
    if any(row.candidate.path is None or (row.comparison and not row.comparison.passed) for row in ours):
        raise typer.Exit(1)


def write(path: Path, document: dict[str, Any]) -> None:
    """As JSON, whole or not at all."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        scratch.write_text(json.dumps(document, indent=1, default=str) + "\n")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


if __name__ == "__main__":
    typer.run(main)
