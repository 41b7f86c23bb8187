"""Our channel mapper against mmdet's."""

import pytest
import torch
from mmdet.models.necks import ChannelMapper as MMDetChannelMapper

from projects.deformable_detr.neck import ChannelMapper


@pytest.mark.parametrize("num_outs", [None, 2, 3, 5])
@pytest.mark.parametrize("norm_cfg", [None, dict(type="GN", num_groups=3)])
def test_channel_mapper_is_mmdets(num_outs, norm_cfg):
    cfg = dict(in_channels=[4, 7], out_channels=6, kernel_size=1, act_cfg=None)
    ours = ChannelMapper(**cfg, norm_cfg=norm_cfg, num_outs=num_outs).double()
    theirs = MMDetChannelMapper(**cfg, norm_cfg=norm_cfg, num_outs=num_outs).double()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    inputs = [
        torch.randn(2, c, s, s + 1, dtype=torch.float64, requires_grad=True) for c, s in ((4, 9), (7, 5))
    ]
    outs, expected = ours(inputs), theirs(inputs)
    torch.testing.assert_close(outs, expected)
    gradients = [torch.autograd.grad(sum(x.square().sum() for x in o), inputs) for o in (outs, expected)]
    torch.testing.assert_close(*gradients)


def test_wrong_number_of_levels_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        ChannelMapper([4, 7], 6)([torch.zeros(1, 4, 8, 8)])
