"""The attentions of a layer, each with its residual: output = query + dropout(attention)."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

import ms_deform_attn

from .registry import MODELS


@MODELS.register_module()
class MSDeformAttn(ms_deform_attn.MSDeformAttn):
    """Multi-scale deformable attention (paper, section 4.1, equation 3) and the residual around it.

    Args:
        embed_dims: width of queries and values.
        num_heads: number of heads; divides ``embed_dims``.
        num_levels: number of feature levels.
        num_points: sampling points a head and level.
        dropout: on the output, before the residual.
        batch_first: always True; there for configs written for mmdet.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        num_levels: int = 4,
        num_points: int = 4,
        dropout: float = 0.1,
        batch_first: bool = True,
    ) -> None:
        super().__init__(embed_dims, num_heads, num_levels, num_points)
        _require_batch_first(batch_first)
        self.dropout = nn.Dropout(dropout)

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
        """Attend from each query to a few points around its reference.

        Args:
            query: (bs, num_queries, embed_dims).
            query_pos: same shape, added to the query to choose points and weights.
            value: (bs, num_value, embed_dims).
            reference_points: (bs, num_queries, num_levels, 2 or 4), in units of the padded level.
            spatial_shapes: (h, w) of each level.
            level_start_index: where each level starts in ``value``.
            key_padding_mask: (bs, num_value), True on padding.

        Returns:
            (bs, num_queries, embed_dims).
        """
        output = super().forward(
            query + query_pos,
            value,
            reference_points,
            spatial_shapes,
            level_start_index,
            key_padding_mask,
        )
        return query + self.dropout(output)


@MODELS.register_module()
class MultiheadAttention(BaseModule):
    """Full attention among the queries and the residual around it.

    Args:
        embed_dims: width of the queries.
        num_heads: number of heads; divides ``embed_dims``.
        dropout: on the attention weights and on the output.
        batch_first: always True; there for configs written for mmdet.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        embed_dims: int = 256,
        num_heads: int = 8,
        dropout: float = 0.0,
        batch_first: bool = True,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        _require_batch_first(batch_first)
        self.attn = nn.MultiheadAttention(embed_dims, num_heads, dropout, batch_first=True)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query: Tensor, query_pos: Tensor) -> Tensor:
        """Attend among ``query``; it and its positions ``query_pos`` are (bs, num_queries, embed_dims)."""
        key = query + query_pos
        output, _ = self.attn(key, key, query, need_weights=False)
        return query + self.dropout(output)


def _require_batch_first(batch_first: bool) -> None:
    if not batch_first:
        raise ValueError("batch_first must be True: all tensors here are (bs, n, embed_dims)")
