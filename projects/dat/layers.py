"""Layers on feature maps (bs, channels, h, w): normalisation, MLP, and convolution of patches."""

from collections import OrderedDict

import torch.nn.functional as F
from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """LayerNorm over the channels, at each position by itself."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)


class MLP(nn.Module):
    """Two linear layers at each position, GELU and four times as many channels between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        layers = OrderedDict(
            linear1=nn.Linear(channels, 4 * channels),
            act=nn.GELU(),
            linear2=nn.Linear(4 * channels, channels),
        )
        self.chunk = nn.Sequential(layers)  # the official code's name

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        return self.chunk(x.movedim(1, -1)).movedim(-1, 1)


class PatchConv(nn.Conv2d):
    """Convolution of patches that do not overlap; at right and bottom the last patch is filled with zeros."""

    def __init__(self, in_channels: int, channels: int, size: int, bias: bool = True) -> None:
        super().__init__(in_channels, channels, size, stride=size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(bs, in_channels, h, w) to (bs, channels, h / size, w / size), rounded up."""
        size = self.stride[0]
        below, right = ((side + size - 1) // size * size - side for side in x.shape[-2:])
        return super().forward(F.pad(x, (0, right, 0, below)))
