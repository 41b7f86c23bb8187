"""What mmdet's backbones lack."""

from mmdet.models.backbones import ResNet

from .registry import MODELS


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
