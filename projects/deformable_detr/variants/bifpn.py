"""A feature pyramid that goes down and up, with learnt weights."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmcv.cnn import DepthwiseSeparableConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from ..neck import ChannelMapper
from ..registry import MODELS


@MODELS.register_module()
class BiFPN(ChannelMapper):
    """`ChannelMapper`, then layers of weighted bidirectional fusion (Tan et al., CVPR 2020, section 3).

    The extra levels come from the last input level, as in `ChannelMapper`.

    Args:
        in_channels: channels of each input level.
        out_channels: channels of every output level.
        num_layers: how often the pyramid is gone down and up.
        num_outs: number of output levels, at least 2; each is half the one before, rounded up.
        norm_cfg: normalisation after each convolution.
        **kwargs: further ones of `ChannelMapper`.
    """

    def __init__(
        self,
        in_channels: list[int],
        out_channels: int,
        num_layers: int,
        num_outs: int,
        norm_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        super().__init__(in_channels, out_channels, num_outs=num_outs, norm_cfg=norm_cfg, **kwargs)
        self.layers = nn.ModuleList(BiFPNLayer(num_outs, out_channels, norm_cfg) for _ in range(num_layers))

    def forward(self, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Levels (bs, in_channels[i], h_i, w_i) to ``num_outs`` levels (bs, out_channels, h_i, w_i)."""
        levels = super().forward(inputs)
        for layer in self.layers:
            levels = layer(levels)
        return levels


class BiFPNLayer(BaseModule):
    """Once down the pyramid and once up.

    Args:
        num_levels: number of levels.
        channels: channels of every level.
        norm_cfg: normalisation after each convolution.
    """

    def __init__(self, num_levels: int, channels: int, norm_cfg: dict | None) -> None:
        super().__init__()
        self.down = nn.ModuleList(WeightedFusion(2, channels, norm_cfg) for _ in range(num_levels - 1))
        self.up = nn.ModuleList(
            WeightedFusion(num_inputs, channels, norm_cfg) for num_inputs in [3] * (num_levels - 2) + [2]
        )

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels (bs, channels, h_i, w_i), finest first, to levels of the same shapes."""
        x = levels[-1]
        on_the_way = []  # what level i was on the way down, from 0 to the last but one
        for level, fuse in zip(reversed(levels[:-1]), reversed(self.down), strict=True):
            x = fuse(level, F.interpolate(x, size=level.shape[-2:]))
            on_the_way.insert(0, x)
        outs = [x]
        for i, fuse in enumerate(self.up, 1):
            x = F.max_pool2d(x, 3, stride=2, padding=1)
            x = fuse(levels[i], *on_the_way[i : i + 1], x)
            outs.append(x)
        return tuple(outs)


class WeightedFusion(BaseModule):
    """Weighted mean of features, activation, separable convolution.

    "Fast normalized fusion" of Tan et al., section 3.3: weights are held at zero or above and divided by
    their sum.

    Args:
        num_inputs: number of features to fuse.
        channels: their channels.
        norm_cfg: normalisation after the convolution.
    """

    def __init__(self, num_inputs: int, channels: int, norm_cfg: dict | None) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.ones(num_inputs))
        self.conv = DepthwiseSeparableConvModule(
            channels, channels, 3, padding=1, dw_norm_cfg=None, norm_cfg=norm_cfg, act_cfg=None
        )

    def forward(self, *inputs: Tensor) -> Tensor:
        """``num_inputs`` features (bs, channels, h, w) to one of the same shape."""
        weights = self.weights.relu()
        weights = weights / (weights.sum() + 1e-4)
        mean = sum(weight * x for weight, x in zip(weights, inputs, strict=True))
        return self.conv(F.silu(mean))
