"""A stage of DAT: blocks of attention and MLP on maps of one size."""

from mmcv.cnn.bricks import DropPath
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import MLP, ChannelNorm


class Stage(nn.Module):
    """Blocks of normalisation, attention, normalisation, MLP, with two residual connections.

    Each block has one of ``attentions`` and the probability that a residual branch is dropped; ``with_cp`` is
    activation checkpointing of each.
    """

    def __init__(
        self, channels: int, attentions: list[nn.Module], drop_path_rates: list[float], with_cp: bool = False
    ) -> None:
        super().__init__()
        self.with_cp = with_cp
        self.layer_norms = nn.ModuleList(ChannelNorm(channels) for _ in range(2 * len(attentions)))
        self.attns = nn.ModuleList(attentions)
        self.mlps = nn.ModuleList(MLP(channels) for _ in attentions)
        self.drop_path = nn.ModuleList(DropPath(rate) for rate in drop_path_rates)

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        for block in range(len(self.attns)):
            x = (
                checkpoint(self._block, x, block, use_reentrant=False)
                if self.with_cp
                else self._block(x, block)
            )
        return x

    def _block(self, x: Tensor, block: int) -> Tensor:
        for i, branch in ((2 * block, self.attns[block]), (2 * block + 1, self.mlps[block])):
            x = x + self.drop_path[block](branch(self.layer_norms[i](x)))
        return x
