"""The multilayer perceptron of a block, plain or with a depthwise convolution."""

from torch import Tensor, nn


class MLP(nn.Module):
    """Two linear layers at each cell, GELU between them.

    Args:
        channels: channels of input and output.
        ratio: hidden channels by ``channels``.
        drop_rate: dropout after each linear layer.
    """

    def __init__(self, channels: int, ratio: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        self.chunk = nn.Sequential()
        self.chunk.add_module("linear1", nn.Linear(channels, ratio * channels))
        self.chunk.add_module("act", nn.GELU())
        self.chunk.add_module("drop1", nn.Dropout(drop_rate))
        self.chunk.add_module("linear2", nn.Linear(ratio * channels, channels))
        self.chunk.add_module("drop2", nn.Dropout(drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        return self.chunk(x.movedim(1, -1)).movedim(-1, 1)


class ConvMLP(nn.Module):
    """`MLP` whose hidden channels also see their 3 x 3 neighbours, as the official code has it today.

    Args:
        channels: channels of input and output.
        ratio: hidden channels by ``channels``.
        drop_rate: dropout after each linear layer.
    """

    def __init__(self, channels: int, ratio: int, drop_rate: float = 0.0) -> None:
        super().__init__()
        hidden = ratio * channels
        # The official code has each 1 x 1 convolution in a Sequential, and its checkpoints so too.
        self.linear1 = nn.Sequential(nn.Conv2d(channels, hidden, 1))
        self.dwc = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.act = nn.GELU()
        self.linear2 = nn.Sequential(nn.Conv2d(hidden, channels, 1))
        self.drop = nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        x = self.drop(self.linear1(x))
        return self.drop(self.linear2(self.act(x + self.dwc(x))))
