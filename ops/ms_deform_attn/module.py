"""The attention as a module."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .functional import ms_deform_attn_fused


class MSDeformAttn(nn.Module):
    """Multi-scale deformable attention (Deformable DETR, section 4.1).

    The parameters have the names and shapes of those of mmcv's ``MultiScaleDeformableAttention``. There
    is no residual and no dropout inside.

    Args:
        embed_dims: channels of query, value and output; a multiple of ``num_heads``.
        num_heads: attention heads.
        num_levels: feature levels.
        num_points: samples of each query in each head and level.

    Raises:
        ValueError: ``embed_dims`` is not a multiple of ``num_heads``.
    """

    def __init__(self, embed_dims: int = 256, num_heads: int = 8, num_levels: int = 4, num_points: int = 4):
        super().__init__()
        if embed_dims % num_heads:
            raise ValueError(f"embed_dims must be a multiple of num_heads, got {embed_dims} and {num_heads}")
        self.embed_dims = embed_dims
        self.num_heads = num_heads
        self.num_levels = num_levels
        self.num_points = num_points
        num_samples = num_heads * num_levels * num_points
        self.sampling_offsets = nn.Linear(embed_dims, num_samples * 2)
        self.attention_weights = nn.Linear(embed_dims, num_samples)
        self.value_proj = nn.Linear(embed_dims, embed_dims)
        self.output_proj = nn.Linear(embed_dims, embed_dims)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Start as in appendix A.4: point k of a head looks k pixels away in the head's own direction."""
        angles = torch.arange(self.num_heads) * (2 * math.pi / self.num_heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions /= directions.abs().amax(dim=-1, keepdim=True)
        steps = torch.arange(1, self.num_points + 1)
        offsets = directions[:, None, None] * steps[:, None]  # (num_heads, 1, num_points, 2)
        offsets = offsets.expand(-1, self.num_levels, -1, -1)
        self.sampling_offsets.bias.copy_(offsets.flatten())

        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
        for linear in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(linear.weight)
        for linear in (self.attention_weights, self.value_proj, self.output_proj):
            nn.init.zeros_(linear.bias)

    def forward(
        self,
        query: Tensor,
        value: Tensor,
        reference_points: Tensor,
        spatial_shapes: Tensor | Sequence[Sequence[int]],
        level_start_index: Tensor | Sequence[int],
        key_padding_mask: Tensor | None = None,
    ) -> Tensor:
        """Attend from each query to samples around its reference point.

        Locations, softmax and sums are float32 at least, also under autocast.

        Args:
            query: (bs, num_queries, embed_dims), its position already added.
            value: (bs, num_value, embed_dims).
            reference_points: (bs, num_queries, num_levels, 2), points (x, y), or
                (bs, num_queries, num_levels, 4), boxes (cx, cy, w, h); all in [0, 1].
            spatial_shapes: (num_levels, 2), height and width of each level; int64 tensor or ints.
            level_start_index: (num_levels,), where each level starts in ``value``.
            key_padding_mask: (bs, num_value), True on padding, whose projected value becomes zero.

        Returns:
            (bs, num_queries, embed_dims).

        Raises:
            ValueError: shapes do not fit each other.
        """
        bs, num_queries, _ = query.shape
        sizes = (bs, num_queries, self.num_heads, self.num_levels, self.num_points)

        value = self.value_proj(value)
        if key_padding_mask is not None:
            value = value.masked_fill(key_padding_mask[..., None], 0)
        value = value.unflatten(-1, (self.num_heads, -1))

        output = ms_deform_attn_fused(
            value,
            spatial_shapes,
            level_start_index,
            reference_points.to(torch.promote_types(value.dtype, torch.float32)),
            self.sampling_offsets(query).view(*sizes, 2),
            self.attention_weights(query).view(sizes),
        )
        return self.output_proj(output)
