"""The attentions of a layer, which adds the residual itself."""

from mmengine.model import BaseModule
from torch import Tensor, nn

import ms_deform_attn

from .levels import Levels
from .registry import MODELS


@MODELS.register_module(name=["MultiScaleDeformableAttention", "MSDeformAttn"])
class MultiScaleDeformableAttention(ms_deform_attn.MSDeformAttn):
    """Multi-scale deformable attention (paper, section 4.1, equation 3), then dropout.

    Args:
        embed_dims: width of queries and values.
        num_heads: number of heads; divides ``embed_dims``.
        num_levels: number of feature levels.
        num_points: sampling points a head and level.
        dropout: on the output.
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
        self, query: Tensor, query_pos: Tensor, value: Tensor, reference_points: Tensor, levels: Levels
    ) -> Tensor:
        """Attend from each query to a few points around its reference.

        Args:
            query: (bs, num_queries, embed_dims).
            query_pos: same shape, added to the query to choose points and weights.
            value: (bs, num_value, embed_dims).
            reference_points: (bs, num_queries, num_levels, 2 or 4), in units of the padded level.
            levels: where the tokens of ``value`` are.

        Returns:
            (bs, num_queries, embed_dims).
        """
        output = super().forward(
            query + query_pos, value, reference_points, levels.shapes, levels.starts, levels.padding_mask
        )
        return self.dropout(output)


@MODELS.register_module()
class MultiheadAttention(BaseModule):
    """Full attention among the queries, then dropout.

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

    def forward(self, query: Tensor, query_pos: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend among ``query``; it and its positions ``query_pos`` are (bs, num_queries, embed_dims).

        ``mask``, (num_queries, num_queries), is True where a row's query must not see a column's.
        """
        key = query + query_pos
        output, _ = self.attn(key, key, query, need_weights=False, attn_mask=mask)
        return self.dropout(output)


def _require_batch_first(batch_first: bool) -> None:
    if not batch_first:
        raise ValueError("batch_first must be True: all tensors here are (bs, n, embed_dims)")
