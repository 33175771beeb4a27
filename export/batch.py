"""Whether a model takes any number of samples, which ``--dynamic-batch`` promises: tried before anything is made."""

import torch

from edgeattn.errors import BadInputError
from edgeattn.export.source import Source, run
from edgeattn.system.vendor_errors import first_line


def check(source: Source) -> None:
    """Run the model on its example twice over, along the first axis of every input.

    Raises:
        BadInputError: an input or an output has no batch, or the model fails; one sentence says which.
    """
    for name, value in source.inputs.items():
        if not value.dim():
            raise BadInputError(f"--dynamic-batch: the input {name} has no batch: it is one number, of no dimension")
    doubled = {name: torch.cat([x, x]) for name, x in source.inputs.items()}
    try:
        outputs = run(source.module, doubled)
    except Exception as error:  # the user's own code
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in doubled.items())
        raise BadInputError(
            f"--dynamic-batch: the model fails with twice the samples in every input ({shapes}): {first_line(error)}; "
            "give each input a batch, as its first axis, or leave the option out"
        ) from error
    for (name, one), two in zip(source.outputs.items(), outputs, strict=True):
        if not one.dim() or two.shape != (2 * one.shape[0], *one.shape[1:]):
            raise BadInputError(
                f"--dynamic-batch: the output {name} has no batch: it is {list(two.shape)} for twice the samples of "
                f"{list(one.shape)}; leave the option out"
            )
