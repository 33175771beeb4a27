"""Weights of a trained sample, stored in fp16."""

from pathlib import Path
from typing import TypeVar

from safetensors.torch import load_file, save
from torch import nn

from edgeattn.system import files

Network = TypeVar("Network", bound=nn.Module)


def write(network: nn.Module, path: Path) -> None:
    """Save the weights, whole or not at all."""
    halves = {n: x.half() if x.is_floating_point() else x for n, x in network.state_dict().items()}
    files.write(path, save({n: x.contiguous() for n, x in halves.items()}))


def read(network: Network, path: Path) -> Network:
    """``network`` with the weights of a file, in the types that it has, and in evaluation mode."""
    own = network.state_dict()
    network.load_state_dict({name: x.to(own[name].dtype) for name, x in load_file(path).items()})
    return network.eval()
