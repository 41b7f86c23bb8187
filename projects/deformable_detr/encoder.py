"""The encoder: every cell of every level attends to a few cells of every level."""

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from .checkpointing import recomputed
from .geometry import encoder_reference_points
from .registry import MODELS


@MODELS.register_module()
class DeformableDetrTransformerEncoderLayer(BaseModule):
    """Deformable self-attention, then a feed-forward network, each followed by a norm.

    Args:
        self_attn_cfg: of `MSDeformAttn`.
        ffn_cfg: of mmcv's ``FFN``.
        norm_cfg: of the two norms.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        self_attn_cfg: dict,
        ffn_cfg: dict,
        norm_cfg: dict = dict(type="LN"),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.self_attn = MODELS.build(self_attn_cfg, default_args=dict(type="MSDeformAttn"))
        # mmcv's default works in place on a view, for which autograd copies the gradient.
        act_cfg = dict(type="ReLU")
        self.ffn = MODELS.build(ffn_cfg, default_args=dict(type="FFN", act_cfg=act_cfg))
        self.embed_dims = self.self_attn.embed_dims
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, self.embed_dims)[1] for _ in range(2))

    def forward(self, query: Tensor, query_pos: Tensor, **attn_inputs) -> Tensor:
        """One layer on ``query`` (bs, num_value, embed_dims); see `MSDeformAttn` for ``attn_inputs``."""
        query = self.norms[0](self.self_attn(query, query_pos, value=query, **attn_inputs))
        return self.norms[1](self.ffn(query))


@MODELS.register_module()
class DeformableDetrTransformerEncoder(BaseModule):
    """A stack of encoder layers (paper, section 4.2, "Deformable Transformer Encoder").

    Args:
        num_layers: number of layers.
        layer_cfg: of the layer.
        num_cp: so many of the first layers are computed again in the backward pass, which saves memory and
            costs time; their gradients stay the same.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self, num_layers: int, layer_cfg: dict, num_cp: int = -1, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        layer_type = dict(type="DeformableDetrTransformerEncoderLayer")
        self.layers = nn.ModuleList(
            MODELS.build(layer_cfg, default_args=layer_type) for _ in range(num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims
        self.num_cp = num_cp

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        key_padding_mask: Tensor | None,
        spatial_shapes: Sequence[tuple[int, int]],
        level_start_index: Sequence[int],
        valid_ratios: Tensor,
    ) -> Tensor:
        """Encode the levels, flattened and put one after the other.

        Args:
            query: (bs, num_value, embed_dims).
            query_pos: same shape, position and level of each cell.
            key_padding_mask: (bs, num_value), True on padding; None where there is none.
            spatial_shapes: (h, w) of each level.
            level_start_index: where each level starts in ``query``.
            valid_ratios: (bs, num_levels, 2).

        Returns:
            The memory, (bs, num_value, embed_dims).
        """
        reference_points = encoder_reference_points(spatial_shapes, valid_ratios)
        for i, layer in enumerate(self.layers):
            query = recomputed(layer, i < self.num_cp)(
                query,
                query_pos,
                reference_points=reference_points,
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                key_padding_mask=key_padding_mask,
            )
        return query
