"""From pixels to the cells of the first stage, and from each stage to the next."""

import torch.nn.functional as F
from torch import Tensor, nn

from .norm import ChannelNorm


class PatchConv(nn.Conv2d):
    """Convolution of patches that do not overlap; at right and bottom the last patch is filled with zeros.

    Args:
        in_channels, channels: channels of input and output.
        size: side of a patch.
        bias: whether a bias is added.
    """

    def __init__(self, in_channels: int, channels: int, size: int, bias: bool = True) -> None:
        super().__init__(in_channels, channels, size, stride=size, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """(bs, in_channels, h, w) to (bs, channels, h / size, w / size), rounded up."""
        height, width = x.shape[-2:]
        size = self.stride[0]
        return super().forward(F.pad(x, (0, -width % size, 0, -height % size)))


def patch_embedding(channels: int, patch_size: int, conv_patches: bool) -> nn.Sequential:
    """(bs, 3, h, w) to (bs, channels, h / patch_size, w / patch_size), rounded up.

    Args:
        channels: channels of the first stage.
        patch_size: side of a patch in pixels, 4 or (with ``conv_patches``) an even number.
        conv_patches: two overlapping convolutions, as in the official code's later models; without it
            patches that do not overlap (paper, section 3.3).
    """
    if not conv_patches:
        return nn.Sequential(PatchConv(3, channels, patch_size), ChannelNorm(channels))
    half = channels // 2
    return nn.Sequential(
        nn.Conv2d(3, half, 3, stride=2, padding=1),
        ChannelNorm(half),
        nn.GELU(),
        nn.Conv2d(half, channels, 3, stride=patch_size // 2, padding=1),
        ChannelNorm(channels),
    )


def downsampling(channels: int, conv_patches: bool) -> nn.Sequential:
    """(bs, channels, h, w) to (bs, 2 * channels, h / 2, w / 2), rounded up; see `patch_embedding`."""
    if conv_patches:
        conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
    else:
        conv = PatchConv(channels, 2 * channels, 2, bias=False)
    return nn.Sequential(conv, ChannelNorm(2 * channels))
