"""Deformable attention of DAT: all queries share keys and values, sampled at points that the image moves."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .layers import ChannelNorm
from .position_bias import centres, relative_bias, resize_table

MAX_BIAS_ELEMENTS = 2**26  # 256 MiB in float32, as much as 145 images of 224 pixels need


class SharedPoints(NamedTuple):
    """Where deformable attention samples, and how much some of the tokens attend to each point.

    Points are x, y in tokens: (0, 0) is the map's outer corner, (0.5, 0.5) the centre of the first token. As
    many heads in a row share a group's points as there are heads for each group.
    """

    grid: Tensor  # (num_points, 2), the regular grid that the points are moved from
    points: Tensor  # (bs, num_groups, num_points, 2)
    weights: Tensor  # (bs, num_heads, number of tokens, num_points), 1 in sum over the points


class DeformableAttention(nn.Module):
    """Multi-head attention to points that a small network moves off a regular grid (paper, section 3.2).

    The arithmetic is that of the code which the paper's checkpoints were trained with: tokens stand at
    their centres, ``grid_sample`` aligns corners.

    Args:
        channels: channels of input and output.
        num_heads: number of heads, a multiple of ``num_groups``.
        num_groups: groups of channels, each of which moves the grid in its own way.
        map_size: side, in tokens, of the map that the table of position biases is made for.
        stride: tokens from one point of the grid to the next.
        kernel_size: of the offset network's depthwise convolution, odd.
        offset_range_factor: the farthest that a point moves, in halves of the grid's spacing.
        max_bias_elements: the position bias is made for no more pairs of query and point at once, and made
            again in the backward pass; None: for all at once.
    """

    def __init__(
        self,
        channels: int,
        num_heads: int,
        num_groups: int,
        map_size: int,
        stride: int = 1,
        kernel_size: int = 3,
        offset_range_factor: float = 2,
        max_bias_elements: int | None = MAX_BIAS_ELEMENTS,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.num_groups = num_groups
        self.offset_range_factor = offset_range_factor
        self.max_bias_elements = max_bias_elements
        width = channels // num_groups
        self.conv_offset = nn.Sequential(
            nn.Conv2d(width, width, kernel_size, stride, kernel_size // 2, groups=width),
            ChannelNorm(width),
            nn.GELU(),
            nn.Conv2d(width, 2, 1, bias=False),
        )
        self.proj_q, self.proj_k, self.proj_v, self.proj_out = (
            nn.Conv2d(channels, channels, 1) for _ in range(4)
        )
        table = torch.empty(num_heads, 2 * map_size - 1, 2 * map_size - 1)
        self.rpe_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.01))

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        query = self.proj_q(x)
        points = self.points(query, dtype=x.dtype)
        out = self._attend(*self._project(x, query, points), points, tuple(x.shape[2:]))
        return self.proj_out(out.transpose(2, 3).reshape(x.shape))

    @torch.no_grad()
    def points_and_weights(self, x: Tensor, tokens: Sequence[int]) -> SharedPoints:
        """What `forward` samples and ``tokens``, numbered row by row, attend to, for inspection."""
        query = self.proj_q(x)
        points = self.points(query, dtype=x.dtype)
        size = tuple(x.shape[2:])
        q, k, _ = self._project(x, query, points)
        logits = q[:, :, tokens] @ k.transpose(2, 3) / q.shape[-1] ** 0.5
        weights = (logits + self._bias(points, size, tokens)).softmax(-1)
        grid = centres(*points.shape[2:4], like=points)
        return SharedPoints(
            _in_tokens(grid, size).flatten(0, 1), _in_tokens(points, size).flatten(2, 3), weights
        )

    def _project(self, x: Tensor, query: Tensor, points: Tensor) -> Sequence[Tensor]:
        """Queries, keys and values, (bs, num_heads, number, head_dims)."""
        sampled = F.grid_sample(
            x.reshape(x.shape[0] * self.num_groups, -1, *x.shape[2:]),
            points.flatten(0, 1),
            align_corners=True,
        ).reshape(*x.shape[:2], *points.shape[2:4])
        parts = (query, self.proj_k(sampled), self.proj_v(sampled))
        return [part.flatten(2).unflatten(1, (self.num_heads, -1)).mT for part in parts]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, points: Tensor, size: tuple) -> Tensor:
        """The attention's output, shaped like ``q``; a part of the queries at a time if they are many."""

        def attend(part: slice) -> Tensor:
            bias = self._bias(points, size, part).to(q.dtype)
            return F.scaled_dot_product_attention(q[:, :, part], k, v, attn_mask=bias)

        step = q.shape[2]
        if self.max_bias_elements:
            step = max(1, self.max_bias_elements // k.shape[:3].numel())
        if step >= q.shape[2]:
            return attend(slice(None))
        parts = [slice(start, start + step) for start in range(0, q.shape[2], step)]
        return torch.cat([checkpoint(attend, part, use_reentrant=False) for part in parts], 2)

    def points(self, query: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        """Where keys and values are sampled.

        Args:
            query: (bs, channels, h, w), of ``proj_q``.
            dtype: of the result, by default that of ``query``. Half precision cannot tell positions apart.

        Returns:
            (bs, num_groups, h of the grid, w of the grid, 2): x, y, where [-1, 1] is the map.
        """
        offset = self.conv_offset(query.reshape(-1, query.shape[1] // self.num_groups, *query.shape[2:]))
        offset = offset.to(dtype or query.dtype).movedim(1, -1).flip(-1)  # the network says y, x
        height, width = offset.shape[1:3]
        reach = [offset.new_full((), self.offset_range_factor / side) for side in (width, height)]
        points = centres(height, width, like=offset) + offset.tanh() * torch.stack(reach)
        return points.unflatten(0, (-1, self.num_groups))

    def _bias(self, points: Tensor, size: tuple[int, int], tokens: Sequence[int] | slice) -> Tensor:
        """Bias of the logits, (bs, num_heads, number of ``tokens``, number of points)."""
        queries = centres(*size, like=points).flatten(0, 1)[tokens]
        return relative_bias(self.rpe_table, queries, points.flatten(2, 3))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        if (table := state_dict.get(key := f"{prefix}rpe_table")) is not None:
            state_dict[key] = resize_table(table, self.rpe_table.shape[-1])
        super()._load_from_state_dict(state_dict, prefix, *args)


def _in_tokens(points: Tensor, size: tuple[int, int]) -> Tensor:
    """Where ``grid_sample`` finds x, y in [-1, 1], in tokens: its corners are centres of corner tokens."""
    return (points + 1) / 2 * (points.new_tensor(size).flip(0) - 1) + 0.5
