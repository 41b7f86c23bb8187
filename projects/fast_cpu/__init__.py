"""The same numbers in less time on a CPU: modules that stand in for torch's in a model that is built.

Names, parameters and ``state_dict`` of the model stay as they are. On other devices, in other dtypes and
under compilers the modules do what torch's do.
"""

from mmcv.cnn.bricks.wrappers import Linear as MmcvLinear
from mmdet.models.backbones import ResNet
from mmdet.models.backbones.resnet import BasicBlock, Bottleneck
from mmengine.model import Sequential
from torch import nn

from .conv import Conv2d, FoldedNorm
from .linear import Linear
from .memory import keep_memory

__all__ = ["keep_memory", "speed_up"]


def speed_up(model: nn.Module) -> None:
    """Let the linear layers, convolutions and batch norms of ``model`` be those of this package."""
    for parent in model.modules():
        # Elsewhere the order of the modules need not be that of the forward.
        in_order = type(parent) in (nn.Sequential, Sequential)
        in_order = in_order or isinstance(parent, (ResNet, BasicBlock, Bottleneck))
        previous = None
        for module in parent.children():
            if type(module) in (nn.Linear, MmcvLinear):
                module.__class__ = Linear
            elif type(module) is nn.Conv2d:
                module.__class__ = Conv2d
            elif in_order and type(module) is nn.BatchNorm2d and type(previous) is Conv2d:
                module.__class__ = FoldedNorm
                previous.norms = (module,)
            previous = module
