"""Deformable attention that stays within each level."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..attention import MSDeformAttn
from ..registry import MODELS


@MODELS.register_module()
class LevelwiseDeformAttn(MSDeformAttn):
    """Deformable self-attention of each level within itself, the residual included.

    For the rows of the paper's table 2 with multi-scale inputs but no multi-scale attention: a cell of a
    level samples ``num_points`` points of that level alone (equation 2). All levels share the weights.

    Args:
        embed_dims: width of queries and values.
        num_heads: number of heads; divides ``embed_dims``.
        num_points: sampling points a head.
        dropout: on the output, before the residual.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_points: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(embed_dims, num_heads, 1, num_points, dropout)

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
        level_start_index: Sequence[int],
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """As `MSDeformAttn`, with a query a cell: ``query`` and ``value`` are (bs, num_value, embed_dims)."""
        outputs = []
        for level, (h, w) in enumerate(spatial_shapes):
            start = level_start_index[level]
            cells = slice(start, start + h * w)
            output = super().forward(
                query[:, cells],
                query_pos[:, cells],
                value[:, cells],
                reference_points[:, cells, level : level + 1],
                [(h, w)],
                [0],
                None if key_padding_mask is None else key_padding_mask[:, cells],
            )
            outputs.append(output)
        return torch.cat(outputs, 1)
