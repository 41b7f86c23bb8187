"""The decoder: object queries attend to each other, then to a few points of the memory."""

from collections.abc import Sequence

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from .checkpointing import recomputed
from .geometry import refine
from .registry import MODELS


@MODELS.register_module()
class DeformableDetrTransformerDecoderLayer(BaseModule):
    """Self-attention, deformable cross-attention, a feed-forward network, each followed by a norm.

    Args:
        self_attn_cfg: of `MultiheadAttention`.
        cross_attn_cfg: of `MSDeformAttn`.
        ffn_cfg: of mmcv's ``FFN``.
        norm_cfg: of the three norms.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        self_attn_cfg: dict,
        cross_attn_cfg: dict,
        ffn_cfg: dict,
        norm_cfg: dict = dict(type="LN"),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.self_attn = MODELS.build(self_attn_cfg, default_args=dict(type="MultiheadAttention"))
        self.cross_attn = MODELS.build(cross_attn_cfg, default_args=dict(type="MSDeformAttn"))
        # mmcv's default works in place on a view, for which autograd copies the gradient.
        act_cfg = dict(type="ReLU")
        self.ffn = MODELS.build(ffn_cfg, default_args=dict(type="FFN", act_cfg=act_cfg))
        self.embed_dims = self.cross_attn.embed_dims
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, self.embed_dims)[1] for _ in range(3))

    def forward(self, query: Tensor, query_pos: Tensor, **attn_inputs) -> Tensor:
        """One layer on ``query`` (bs, num_queries, embed_dims); see `MSDeformAttn` for ``attn_inputs``."""
        query = self.norms[0](self.self_attn(query, query_pos))
        query = self.norms[1](self.cross_attn(query, query_pos, **attn_inputs))
        return self.norms[2](self.ffn(query))


@MODELS.register_module()
class DeformableDetrTransformerDecoder(BaseModule):
    """A stack of decoder layers, with iterative refinement of the boxes on request.

    Paper, section 4.2 ("Deformable Transformer Decoder", "Iterative Bounding Box Refinement") and A.4.

    Args:
        num_layers: number of layers.
        layer_cfg: of the layer.
        return_intermediate: always True; there for configs written for mmdet.
        post_norm_cfg: always None; there for configs written for mmdet.
        num_cp: so many of the first layers are computed again in the backward pass, which saves memory and
            costs time; their gradients stay the same.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        num_layers: int,
        layer_cfg: dict,
        return_intermediate: bool = True,
        post_norm_cfg: dict | None = None,
        num_cp: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not return_intermediate or post_norm_cfg is not None:
            raise ValueError("the decoder takes return_intermediate=True and post_norm_cfg=None only")
        layer_type = dict(type="DeformableDetrTransformerDecoderLayer")
        self.layers = nn.ModuleList(
            MODELS.build(layer_cfg, default_args=layer_type) for _ in range(num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims
        self.num_cp = num_cp

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        reference_points: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None,
        spatial_shapes: Sequence[tuple[int, int]],
        level_start_index: Sequence[int],
        valid_ratios: Tensor,
        reg_branches: nn.ModuleList | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode the queries.

        Args:
            query: (bs, num_queries, embed_dims).
            query_pos: same shape.
            reference_points: (bs, num_queries, 2 or 4), centres or boxes (cx, cy, w, h) in [0, 1].
            value: the memory, (bs, num_value, embed_dims).
            key_padding_mask: (bs, num_value), True on padding; None where there is none.
            spatial_shapes: (h, w) of each level.
            level_start_index: where each level starts in ``value``.
            valid_ratios: (bs, num_levels, 2).
            reg_branches: the head's box branches, one a layer, if each layer refines the references
                for the next one; else the references stay.

        Returns:
            The output of each layer, (num_layers, bs, num_queries, embed_dims), and the reference points
            that went into each layer, a list of (bs, num_queries, 2 or 4).
        """
        hidden_states, references = [], []
        for i, layer in enumerate(self.layers):
            references.append(reference_points)
            ratios = valid_ratios.repeat(1, 1, reference_points.shape[-1] // 2)
            query = recomputed(layer, i < self.num_cp)(
                query,
                query_pos,
                value=value,
                reference_points=reference_points[:, :, None] * ratios[:, None],
                spatial_shapes=spatial_shapes,
                level_start_index=level_start_index,
                key_padding_mask=key_padding_mask,
            )
            hidden_states.append(query)
            if reg_branches is not None and layer is not self.layers[-1]:
                # No gradient through the references: each layer learns its own correction.
                reference_points = refine(reg_branches[i](query), reference_points).detach()
        return torch.stack(hidden_states), references
