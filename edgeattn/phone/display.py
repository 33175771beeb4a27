"""The display while phones come and go: a line for each result and, on a terminal, a live table."""

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from edgeattn.phone.phones import Phone, Phones
from edgeattn.phone.plan import Plan
from edgeattn.phone.results import label
from edgeattn.phone.serving import Endpoint

# Everything that a phone sent is printed as Text, which knows no markup.


def code(url: str) -> str:
    """The URL as a QR code for a terminal."""
    import segno

    buffer = io.StringIO()
    segno.make(url, error="l").terminal(out=buffer, compact=True)
    return buffer.getvalue()


class Display:
    """Writes to stderr; stdout is for the result."""

    def __init__(self, plan: Plan, phones: Phones) -> None:
        self.plan, self.phones = plan, phones
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)

    def open(self, endpoint: Endpoint, hints: list[str]) -> None:
        self.console.print(f"Open {endpoint.open_at}", markup=False)
        if sys.stderr.isatty() and endpoint.host != "localhost":
            # Both colours are given: a camera needs dark on light, whatever the terminal's own are.
            self.console.print(Text(code(endpoint.open_at), style="bright_white on black"))
        if endpoint.fingerprint:
            self.console.print(f"The certificate's SHA-256: {endpoint.fingerprint}", markup=False, style="dim")
        for hint in hints:
            self.console.print(hint, markup=False)

    @contextmanager
    def watching(self) -> Iterator[None]:
        if not sys.stderr.isatty():
            yield
            return
        with Live(console=self.console, refresh_per_second=4, get_renderable=self._table):
            yield

    def changed(self, phone: Phone, task: str) -> None:
        """``phone`` joined, progressed or ended; ``task`` is the task that it has just finished, or ""."""
        if task:
            task_label = label(self.plan, self.plan.tasks[task])
            self.console.print(Text(f"phone {phone.number}: {task_label}: {phone.results[task].summary}"))
        elif phone.finished:
            self.console.print(f"phone {phone.number} is done")
        elif not phone.results and not phone.current_task:
            self.console.print(Text(f"phone {phone.number} joined: {phone.sender.device.name}"))

    def _table(self) -> Table:
        table = Table(box=None, header_style="bold", title="Phones", title_justify="left")
        for column in ("", "device", "done", "now"):
            table.add_column(column)
        for phone in self.phones.by_session.values():
            now = "done" if phone.finished else ""
            if phone.current_task:
                runs = f"{phone.run} samples" if self.plan.seconds else f"{phone.run} of {self.plan.runs}"
                now = f"{label(self.plan, self.plan.tasks[phone.current_task])}, {runs}"
            done = f"{len(phone.results)} of {len(self.plan.tasks)}"
            table.add_row(str(phone.number), Text(phone.sender.device.name), done, Text(now))
        return table
