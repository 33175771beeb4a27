"""Modules without what is wrapped around them."""

from torch import nn


def unwrapped(module: nn.Module) -> nn.Module:
    """The module without the wrappers of torch.compile and of data parallelism."""
    while True:
        if isinstance(module, nn.DataParallel | nn.parallel.DistributedDataParallel):
            module = module.module
        elif isinstance(compiled := getattr(module, "_orig_mod", None), nn.Module):
            module = compiled
        else:
            return module
