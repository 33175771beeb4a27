"""Whether a check passed."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """What every judgement says first: whether it passed, and the reason if not (empty if it did).

    :class:`edgeattn.parity.metrics.Comparison` adds the errors of one output, :class:`edgeattn.parity.accuracy.Score`
    the answers to labelled inputs, :class:`edgeattn.bundle.records.Likeness` the parity of a measured run.
    """

    passed: bool
    reason: str
