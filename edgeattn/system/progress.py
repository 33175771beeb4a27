"""What is being done, and how much of it there is: told by what works, shown by the command line alone."""

from typing import Protocol


class Progress(Protocol):
    """Is told of steps: ``say.plan(5)``, five more are to come; ``say("running it")``, the next of them begins.

    A thread's next step ends the one before it. ``weight`` is how long a step takes against others of the same
    command, the same in both calls.
    """

    def plan(self, steps: int, /, weight: float = 1) -> None: ...

    def __call__(self, text: str, /, weight: float = 1) -> None: ...


class _Silent:
    def plan(self, steps: int, /, weight: float = 1) -> None:
        pass

    def __call__(self, text: str, /, weight: float = 1) -> None:
        pass


silent: Progress = _Silent()
