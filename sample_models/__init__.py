"""Models that come with edgeattn, one file each: it holds ``MODEL``, a :class:`Model`.

Imported as ``edgeattn.sample_models``. ``bundle`` and the rooms above may import it.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from edgeattn.system.plugins import Registry

if TYPE_CHECKING:
    from torch import Tensor, nn

    from edgeattn.sample_models._checkpoints import Checkpoint

    # A module, example inputs by name, and for a trained module its labelled inputs.
    Built = tuple[nn.Module, dict[str, Tensor]] | tuple[nn.Module, dict[str, Tensor], dict[str, Any]]


class Model(Protocol):
    """A sample model.

    Attributes:
        build: its keyword arguments, all with a default, are those of the command line; its docstring says what it is.
        recognise: reads a checkpoint of another project, by the tensors of its file; returns None for one that it does
            not know. None if there are only our own.
    """

    build: "Callable[..., Built]"
    recognise: "Callable[[Mapping[str, Tensor]], Checkpoint | None] | None" = None


MODELS: Registry[Model] = Registry(__name__, "model")
