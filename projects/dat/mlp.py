"""The multilayer perceptron of a block."""

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
        self.chunk = nn.Sequential()  # the official code's name
        self.chunk.add_module("linear1", nn.Linear(channels, ratio * channels))
        self.chunk.add_module("act", nn.GELU())
        self.chunk.add_module("drop1", nn.Dropout(drop_rate))
        self.chunk.add_module("linear2", nn.Linear(ratio * channels, channels))
        self.chunk.add_module("drop2", nn.Dropout(drop_rate))

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        return self.chunk(x.movedim(1, -1)).movedim(-1, 1)
