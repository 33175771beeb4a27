"""A progress bar on a terminal's stderr: the step, the number of steps, the elapsed and the remaining time."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress
from rich.table import Column
from rich.text import Text

from edgeattn.system.foreign import sentence
from edgeattn.system.progress import Progress

# Few, because each refresh disturbs a measurement on this machine.
_REFRESHES_PER_SECOND = 2


class _Remaining(ProgressColumn):
    """The remaining time, if the coming steps take as long as those before (rich's own column needs more steps)."""

    def render(self, task: Task) -> Text:
        """``fields["spent"]`` is the time until the end of the last step, in seconds."""
        if not task.completed or task.total is None or task.elapsed is None:
            return Text("left -:--:--")
        spent = task.fields["spent"]
        left = spent / task.completed * (task.total - task.completed) - (task.elapsed - spent)
        return Text(f"left {timedelta(seconds=max(0, round(left)))}")


class Bar:
    """Counts steps and their weights, in any number of threads; see :class:`edgeattn.system.progress.Progress`."""

    def __init__(self, shown: RichProgress) -> None:
        self._shown, self._task = shown, shown.add_task("", total=None, steps="", spent=0.0)
        self._begun = self._planned = 0
        self._done = self._total = 0.0
        self._running: dict[int, float] = {}
        self._lock = threading.Lock()

    def plan(self, steps: int, /, weight: float = 1) -> None:
        """Announce more steps."""
        with self._lock:
            self._planned += steps
            self._total += steps * weight
            self._show()

    def __call__(self, text: str, /, weight: float = 1) -> None:
        """Begin a step, which ends the previous one of this thread."""
        with self._lock:
            if ended := self._running.get(threading.get_ident(), 0):
                self._done += ended
                self._shown.update(self._task, spent=self._shown.tasks[0].elapsed)
            self._running[threading.get_ident()] = weight
            self._begun += 1
            self._show(sentence(text))

    def _show(self, text: str | None = None) -> None:
        # An unplanned step raises the number; without a plan the bar has no end.
        count = f"{self._begun}/{max(self._planned, self._begun)}" if self._planned else ""
        total = max(self._total, self._done + sum(self._running.values())) if self._planned else None
        self._shown.update(self._task, description=text, completed=self._done, total=total, steps=count)


@contextmanager
def shown() -> Iterator[Progress]:
    """A bar while the block runs; it is erased at the end."""
    # A descriptor of its own, because descriptor 2 is redirected while converters write to it (edgeattn.system.output).
    with os.fdopen(os.dup(2), "w", encoding="utf-8", errors="replace") as terminal:
        columns = (
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=1, no_wrap=True)),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[steps]}", markup=False),
            TimeElapsedColumn(),
            _Remaining(),
        )
        with RichProgress(
            *columns,
            console=Console(file=terminal, highlight=False),
            transient=True,
            expand=True,
            redirect_stdout=False,
            refresh_per_second=_REFRESHES_PER_SECOND,
        ) as progress:
            yield Bar(progress)
