"""C5 with dilation as the official code has it."""

import torch
from mmdet.models.backbones import ResNet

from projects.deformable_detr.variants.resnet import ResNetDC5

SIZES = dict(depth=50, base_channels=4, norm_eval=True)


def test_only_later_blocks_of_c5_are_dilated():
    """torchvision's ``replace_stride_with_dilation``: the first block keeps the dilation before it."""
    backbone = ResNetDC5(**SIZES)
    convs = [block.conv2 for block in backbone.layer4]
    assert [conv.dilation for conv in convs] == [(1, 1), (2, 2), (2, 2)]
    assert [conv.padding for conv in convs] == [(1, 1), (2, 2), (2, 2)]
    assert {conv.stride for conv in convs} == {(1, 1)}
    assert backbone.layer4[0].downsample[0].stride == (1, 1)


def test_c5_is_as_large_as_c4_and_begins_as_without_dilation():
    """Where the striding first block looks, the dilated one looks too: every second pixel is the same."""
    dilated, strided = ResNetDC5(**SIZES), ResNet(**SIZES)
    dilated.eval(), strided.eval()
    strided.load_state_dict(dilated.state_dict(), strict=True)
    image = torch.randn(1, 3, 64, 96)
    *_, c4, c5 = dilated(image)
    assert c5.shape[-2:] == c4.shape[-2:] == (4, 6)
    torch.testing.assert_close(dilated.layer4[0](c4)[..., ::2, ::2], strided.layer4[0](c4))
