"""BatchNorm folding: in evaluation mode it is an affine map of each channel, part of the convolution before it."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from edgeattn.bundle.change import Change
from edgeattn.lowering.observe import Observation
from edgeattn.lowering.projections import put

_REASON = "BatchNorm in the convolution before it"


def fold_batchnorms(root: nn.Module, observation: Observation) -> list[Change]:
    """Fold every BatchNorm that is the only reader of a convolution into that convolution, in ``root``."""
    changes = []
    for link in observation.links:
        conv, norm = root.get_submodule(link.source), root.get_submodule(link.reader)
        if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d and norm.running_mean is not None:
            put(root, link.source, fuse_conv_bn_eval(conv, norm))
            put(root, link.reader, nn.Identity())
            changes.append(Change(link.reader, "BatchNorm2d", "Identity", _REASON))
    return changes
