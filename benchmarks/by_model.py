"""A table with a row for each model, every model in a process of its own."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence


def table(
    module: str, about: str, head: Sequence[str], measure: Callable[[str], list[str]], models: Sequence[str]
) -> None:
    """Print it. ``module`` is the one that calls this, started again with ``--one`` for each model."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", help="a model; repeatable")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one)))
        return
    print(f"| {' | '.join(head)} |")
    print("|---" * len(head) + "|")
    for name in options.only or models:
        command = [sys.executable, "-W", "ignore", "-m", module, "--one", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = done.stdout.strip().splitlines()
        failed = [name, "failed", *[""] * (len(head) - 3), done.stderr[-80:]]
        row = json.loads(lines[-1]) if done.returncode == 0 and lines else failed
        print("| " + " | ".join(row) + " |", flush=True)
