"""The weighted pyramid against its equations, written out for three levels."""

import torch
import torch.nn.functional as F
from torch import nn

from projects.deformable_detr.variants.bifpn import BiFPN, BiFPNLayer, WeightedFusion


def test_fusion_is_the_normalised_mean_through_a_separable_convolution():
    fusion = WeightedFusion(3, 4, None).double()
    fusion.weights.data = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    a, b, c = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64)
    mean = (0.5 * a + 2 * c) / 2.5001  # a weight below zero counts as zero
    depthwise, pointwise = (module for module in fusion.modules() if isinstance(module, nn.Conv2d))
    swish = mean * mean.sigmoid()
    expected = F.conv2d(swish, depthwise.weight, depthwise.bias, padding=1, groups=4)
    expected = F.conv2d(expected, pointwise.weight, pointwise.bias)
    torch.testing.assert_close(fusion(a, b, c), expected)


def test_layer_goes_down_and_up():
    """Tan et al., figure 2d and the equations below figure 3, on levels of odd size."""
    layer = BiFPNLayer(3, 4, None).double()
    p3, p4, p5 = (torch.randn(2, 4, h, w, dtype=torch.float64) for h, w in [(9, 13), (5, 7), (3, 4)])

    def larger(x, like):
        rows = torch.arange(like.shape[-2]) * x.shape[-2] // like.shape[-2]
        columns = torch.arange(like.shape[-1]) * x.shape[-1] // like.shape[-1]
        return x[:, :, rows][:, :, :, columns]

    def smaller(x):
        return F.max_pool2d(F.pad(x, (1, 1, 1, 1), value=-torch.inf), 3, stride=2)

    middle = layer.down[1](p4, larger(p5, p4))
    out3 = layer.down[0](p3, larger(middle, p3))
    out4 = layer.up[0](p4, middle, smaller(out3))
    out5 = layer.up[1](p5, smaller(out4))
    torch.testing.assert_close(layer([p3, p4, p5]), (out3, out4, out5))


def test_every_output_sees_every_input():
    neck = BiFPN([4, 7], 6, num_layers=1, num_outs=3, kernel_size=1, act_cfg=None)
    neck.init_weights()
    inputs = [
        torch.randn(1, 4, 9, 13, requires_grad=True),
        torch.randn(1, 7, 5, 7, requires_grad=True),
    ]
    outs = neck(inputs)
    assert [out.shape for out in outs] == [(1, 6, 9, 13), (1, 6, 5, 7), (1, 6, 3, 4)]
    for out in outs:
        for gradient in torch.autograd.grad(out.square().sum(), inputs, retain_graph=True):
            assert gradient.any()
