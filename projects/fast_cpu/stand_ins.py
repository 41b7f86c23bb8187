"""Which modules of a model stand in for which."""

from collections import Counter

from mmcv.cnn.bricks.wrappers import Linear as MmcvLinear
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmengine.model import Sequential
from torch import nn

from .conv import Conv2d, FoldedNorm, Place
from .linear import Linear


def speed_up(model: nn.Module) -> None:
    """Let the linear layers, convolutions and batch norms of ``model`` be those of this package.

    What a convolution gives with a batch norm behind it is normalised already, in evaluation: a hook on the
    convolution alone sees that. Copies of the model do each for itself until they are given to this function.
    """
    times = Counter(id(module) for _, module in model.named_modules(remove_duplicate=False))
    for parent in model.modules():
        # Elsewhere the order of the modules need not be that of the forward.
        in_order = type(parent) in (nn.Sequential, Sequential)
        in_order = in_order or isinstance(parent, (ResNet, BasicBlock, Bottleneck))
        before, previous = "", None
        for name, module in parent.named_children():
            if type(module) in (nn.Linear, MmcvLinear):
                module.__class__ = Linear
            elif type(module) is nn.Conv2d:
                module.__class__ = Conv2d
            elif (
                in_order
                and type(module) in (nn.BatchNorm2d, FoldedNorm)
                and type(previous) is Conv2d
                and times[id(module)] == times[id(previous)] == 1  # shared, they would have to be several
            ):
                module.__class__ = FoldedNorm
                module.place = previous.place = Place(parent, before, name)
            before, previous = name, module
