"""Deformable attention that stays within each level."""

import torch
from torch import Tensor

from ..attention import MultiScaleDeformableAttention
from ..levels import Levels
from ..registry import MODELS


@MODELS.register_module()
class LevelwiseDeformAttn(MultiScaleDeformableAttention):
    """Deformable self-attention of each level within itself, then dropout.

    For the rows of the paper's table 2 with multi-scale inputs but no multi-scale attention: a token of a
    level samples ``num_points`` points of that level alone (equation 2). All levels share the weights.

    Args:
        embed_dims: width of queries and values.
        num_heads: number of heads; divides ``embed_dims``.
        num_points: sampling points a head.
        dropout: on the output.
    """

    def __init__(
        self, embed_dims: int = 256, num_heads: int = 8, num_points: int = 4, dropout: float = 0.1
    ) -> None:
        super().__init__(embed_dims, num_heads, 1, num_points, dropout)

    def forward(
        self, query: Tensor, query_pos: Tensor, value: Tensor, reference_points: Tensor, levels: Levels
    ) -> Tensor:
        """As the base class; ``query`` and ``value`` are (bs, num_value, embed_dims), a query a token."""
        outputs = []
        is_padded = levels.padding_mask is not None
        for level, (mask, start) in enumerate(zip(levels.masks, levels.starts, strict=True)):
            tokens = slice(start, start + mask[0].numel())
            output = super().forward(
                query[:, tokens],
                query_pos[:, tokens],
                value[:, tokens],
                reference_points[:, tokens, level : level + 1],
                Levels.of_masks([mask], is_padded),
            )
            outputs.append(output)
        return torch.cat(outputs, 1)
