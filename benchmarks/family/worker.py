"""One model in a process of its own, whose memory goes with it: `python -m benchmarks.family.worker NAME FILE`."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.family.measure import measure
from benchmarks.family.models import BY_NAME, build


def main(name: str, out: Path) -> None:
    torch.set_num_threads(1)
    out.write_text(json.dumps([asdict(row) for row in measure(name, *build(BY_NAME[name]))]))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
