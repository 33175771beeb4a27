"""BatchNorm folding: in evaluation mode it is an affine map of each channel, part of the convolution before it."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batchnorm(module: nn.Module, convolution: str, batchnorm: str) -> bool:
    """Fold the BatchNorm at one path into the convolution at the other, in place; False if it cannot be folded."""
    conv, norm = module.get_submodule(convolution), module.get_submodule(batchnorm)
    if type(conv) is not nn.Conv2d or type(norm) is not nn.BatchNorm2d or norm.running_mean is None:
        return False
    _put(module, convolution, fuse_conv_bn_eval(conv, norm))
    _put(module, batchnorm, nn.Identity())
    return True


def _put(module: nn.Module, path: str, part: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, part)
