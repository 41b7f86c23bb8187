"""Deformable attention inside a backbone: all tokens of a map attend to the same points."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class BackboneAttention:
    """Attention of one block, which is worked out only for the token that is looked at.

    Positions are x and y in pixels of the network's input. The attention has ``num_heads`` and
    ``points_and_weights(x, tokens)``, which returns ``grid`` (num_points, 2), ``points`` (bs, num_groups,
    num_points, 2), both in tokens, and ``weights`` (bs, num_heads, number of tokens, num_points).
    """

    name: str  # of the block
    attention: nn.Module
    stride: int  # side of a token
    x: Tensor  # what the attention got, (bs, channels, h, w)

    @property
    def num_heads(self) -> int:
        """How many heads there are; as many in a row share a group's points as there are for each group."""
        return self.attention.num_heads

    def token_at(self, point: Tensor) -> Tensor:
        """Column and row, (2,), of the token that a point (2,) lies in."""
        last = torch.tensor(self.x.shape[:1:-1]) - 1
        return ((point / self.stride).ceil().long() - 1).clamp(min=0).minimum(last)

    def centres(self, tokens: Tensor) -> Tensor:
        """Where the centres of tokens (n,), numbered row by row, are, (n, 2)."""
        w = self.x.shape[3]
        return (torch.stack((tokens % w, tokens // w), -1) + 0.5) * self.stride

    def seen_from(self, point: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the token at a point (2,) of the first image attends to.

        Returns:
            The token's centre (2,), the points of each group (num_groups, num_points, 2), and their weights
            (num_heads, num_points), 1 in sum over the points.
        """
        column, row = token = self.token_at(point)
        _, points, weights = self.seen((row * self.x.shape[3] + column)[None])
        return (token + 0.5) * self.stride, points, weights[:, 0]

    def moved(self) -> tuple[Tensor, Tensor]:
        """The regular grid (num_points, 2), and where each group has it (num_groups, num_points, 2)."""
        return self.seen(torch.arange(0))[:2]

    def seen(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`moved`, and what tokens (n,) of the first image give to each point, (num_heads, n, num_points)."""
        seen = self.attention.points_and_weights(self.x, tokens.tolist())
        return seen.grid.cpu() * self.stride, seen.points[0].cpu() * self.stride, seen.weights[0].cpu()
