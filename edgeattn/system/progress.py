"""Progress: the code that works reports its steps, and the command line alone shows them."""

from typing import Protocol


class Progress(Protocol):
    """Counts steps: ``progress.plan(5)`` announces five more, ``progress("running it")`` begins the next.

    A thread's next step ends the one before it. ``weight`` is how long a step takes, relative to others of the
    same command; it is the same in both calls.
    """

    def plan(self, steps: int, /, weight: float = 1) -> None: ...

    def __call__(self, text: str, /, weight: float = 1) -> None: ...


class _Silent:
    def plan(self, steps: int, /, weight: float = 1) -> None:
        pass

    def __call__(self, text: str, /, weight: float = 1) -> None:
        pass


silent: Progress = _Silent()
