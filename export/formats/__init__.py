"""One file a format: it converts a lowered module, and reads a saved file back as a graph.

A format is a module with ``SUFFIX``, ``EXTRA``, ``PACKAGES`` and ``READ_PACKAGES``, ``LAYOUT`` (that it is lowered
to), ``DYNAMIC_BATCH``, ``convert(job, path) -> details`` and ``read(path) -> edgeattn.cost.Graph``.
"""

from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True)
class Job:
    """What a converter is given: a module in its final layout, example inputs by name, and output names.

    ``metadata`` is written into the file, as text by name; all three formats have a place for it.
    """

    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: tuple[str, ...]
    dynamic_batch: bool = False
    metadata: dict[str, str] = field(default_factory=dict)

    def traced_inputs(self) -> dict[str, Tensor]:
        """The example inputs; a batch that is to stay free is traced with at least two samples."""
        if not self.dynamic_batch:
            return self.inputs
        return {n: x if x.shape[0] > 1 else x.repeat(2, *[1] * (x.dim() - 1)) for n, x in self.inputs.items()}
