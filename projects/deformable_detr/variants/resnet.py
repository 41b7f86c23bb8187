"""What mmdet's backbones lack."""

from mmdet.models.backbones import ResNet as _ResNet
from mmdet.models.backbones import ResNeXt as _ResNeXt
from mmengine.model import Sequential
from torch import Tensor

from ..checkpointing import checkpointed
from ..registry import MODELS


class _Checkpointed(Sequential):
    """The blocks of a stage, each with activation checkpointing."""

    def forward(self, x: Tensor) -> Tensor:
        """(bs, in_channels, h, w) to what the last block gives."""
        for block in self:
            x = checkpointed(block)(x)
        return x


class _CheckpointedStages:
    def make_res_layer(self, with_cp: bool, **kwargs) -> Sequential:
        """Make a stage; mmdet calls this."""
        stage = super().make_res_layer(with_cp=False, **kwargs)
        return _Checkpointed(*stage) if with_cp else stage


@MODELS.register_module()
class ResNet(_CheckpointedStages, _ResNet):
    """mmdet's, whose ``with_cp`` counts a batch only once in the statistics of batch norms.

    Args:
        **kwargs: of mmdet's ``ResNet``.
    """


@MODELS.register_module()
class ResNeXt(_CheckpointedStages, _ResNeXt):
    """mmdet's, with the ``with_cp`` of `ResNet`.

    Args:
        **kwargs: of mmdet's ``ResNeXt``.
    """


@MODELS.register_module()
class ResNetDC5(ResNet):
    """ResNet whose last stage dilates instead of striding, so that C5 is as large as C4.

    As in the official code, and torchvision's ``replace_stride_with_dilation``, the first block of the
    stage keeps dilation 1: its input is as fine as it was in the pretraining. mmdet's ResNet with
    ``dilations=(1, 1, 1, 2)`` dilates that block too, so that the same weights give other features.

    Args:
        **kwargs: of mmdet's ``ResNet`` of depth 50 or more, but for ``strides`` and ``dilations``.
    """

    def __init__(self, **kwargs) -> None:
        super().__init__(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), **kwargs)
        self.layer4[0].conv2.dilation = self.layer4[0].conv2.padding = (1, 1)
