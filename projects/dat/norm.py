"""Layer normalisation of feature maps."""

from torch import Tensor, nn


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (bs, channels, h, w), at each cell by itself.

    Args:
        channels: number of channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        return self.norm(x.movedim(1, -1)).movedim(-1, 1)
