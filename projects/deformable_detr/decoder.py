"""The decoder: object queries attend to each other, then to a few points of the memory."""

import math
from collections.abc import Callable

import torch
from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from .checkpointing import checkpointed
from .encoder import FFN_DEFAULTS
from .geometry import sine_embedding
from .levels import Levels
from .registry import MODELS


@MODELS.register_module()
class DeformableDetrTransformerDecoderLayer(BaseModule):
    """Self-attention, deformable cross-attention, a feed-forward network, each followed by a norm.

    Args:
        self_attn_cfg: of `MultiheadAttention`.
        cross_attn_cfg: of `MultiScaleDeformableAttention`.
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
        self.cross_attn = MODELS.build(
            cross_attn_cfg, default_args=dict(type="MultiScaleDeformableAttention")
        )
        self.ffn = MODELS.build(ffn_cfg, default_args=FFN_DEFAULTS)
        self.embed_dims = self.cross_attn.embed_dims
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, self.embed_dims)[1] for _ in range(3))

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor,
        value: Tensor,
        reference_points: Tensor,
        levels: Levels,
        self_attn_mask: Tensor | None = None,
    ) -> Tensor:
        """One layer; arguments as in `MultiScaleDeformableAttention` and `MultiheadAttention`."""
        query = self.norms[0](query + self.self_attn(query, query_pos, self_attn_mask))
        attended = self.cross_attn(query, query_pos, value, reference_points, levels)
        query = self.norms[1](query + attended)
        return self.norms[2](query + self.ffn(query))


@MODELS.register_module()
class DeformableDetrTransformerDecoder(BaseModule):
    """A stack of decoder layers, with iterative refinement of the boxes on request.

    Paper, section 4.2 ("Deformable Transformer Decoder", "Iterative Bounding Box Refinement") and A.4.

    Args:
        num_layers: number of layers.
        layer_cfg: of the layer.
        return_intermediate: always True; there for configs written for mmdet.
        post_norm_cfg: of a norm of each layer's output for the head; the next layer gets it without.
        embed_references: the positions of a layer's queries are its references, embedded and sent through an
            MLP (DAB-DETR, arXiv 2201.12329, section 4.2), and not those that come with the queries.
        look_forward_twice: the loss of a layer's boxes also moves the layer before, whose boxes it corrects:
            no detaching between the two (DINO, arXiv 2203.03605, section 3.5).
        refine_eps: how near 0 and 1 a reference is corrected for the next layer; None is as the head does.
        num_cp: number of layers, from the first on, with activation checkpointing.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        num_layers: int,
        layer_cfg: dict,
        return_intermediate: bool = True,
        post_norm_cfg: dict | None = None,
        embed_references: bool = False,
        look_forward_twice: bool = False,
        refine_eps: float | None = None,
        num_cp: int = -1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not return_intermediate:
            raise ValueError("the decoder takes return_intermediate=True only")
        layer_type = dict(type="DeformableDetrTransformerDecoderLayer")
        self.layers = nn.ModuleList(
            MODELS.build(layer_cfg, default_args=layer_type) for _ in range(num_layers)
        )
        self.embed_dims = self.layers[0].embed_dims
        self.look_forward_twice = look_forward_twice
        self.refine_eps = refine_eps
        self.num_cp = num_cp
        self.norm = build_norm_layer(post_norm_cfg, self.embed_dims)[1] if post_norm_cfg else nn.Identity()
        self.embed_references = embed_references
        self.ref_point_head = _ReferenceEmbedding(self.embed_dims) if embed_references else None

    def forward(
        self,
        query: Tensor,
        query_pos: Tensor | None,
        value: Tensor,
        reference_points: Tensor,
        levels: Levels,
        refine_layer: Callable[[int, Tensor, Tensor, float | None], Tensor] | None = None,
        self_attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, list[Tensor]]:
        """Decode the queries.

        Args:
            query: (bs, num_queries, embed_dims).
            query_pos: same shape; None, or not looked at, with ``embed_references``.
            value: the memory, (bs, num_value, embed_dims).
            reference_points: (bs, num_queries, 2 or 4), centres or boxes (cx, cy, w, h) in [0, 1].
            levels: where the tokens of the memory are.
            refine_layer: gives the boxes of a layer from its index, output, references and ``refine_eps``,
                which are the next layer's references; None keeps the references.
            self_attn_mask: see `MultiheadAttention`.

        Returns:
            The output of each layer, (num_layers, bs, num_queries, embed_dims), and the reference points
            that went into each layer, a list of (bs, num_queries, 2 or 4), which pass gradients to the layer
            before with ``look_forward_twice`` alone.
        """
        hidden_states, references = [], []
        for_head = reference_points
        for i, layer in enumerate(self.layers):
            references.append(for_head)
            ratios = levels.valid_ratios.repeat(1, 1, reference_points.shape[-1] // 2)
            # (bs, num_queries, num_levels, 2 or 4)
            in_levels = reference_points[:, :, None] * ratios[:, None]
            if self.ref_point_head is not None:
                query_pos = self.ref_point_head(in_levels[:, :, 0])
            layer_forward = checkpointed(layer, i < self.num_cp)
            query = layer_forward(query, query_pos, value, in_levels, levels, self_attn_mask=self_attn_mask)
            hidden_states.append(self.norm(query))
            if refine_layer is not None and layer is not self.layers[-1]:
                refined = refine_layer(i, query, reference_points, self.refine_eps)
                # No gradient through the references: each layer learns its own correction.
                reference_points = refined.detach()
                for_head = refined if self.look_forward_twice else reference_points
        return torch.stack(hidden_states), references


class _ReferenceEmbedding(nn.Module):
    def __init__(self, embed_dims: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            (nn.Linear(embed_dims * 2, embed_dims), nn.Linear(embed_dims, embed_dims))
        )

    def forward(self, boxes: Tensor) -> Tensor:
        hidden, output = self.layers
        # The order of DAB-DETR: y, x, w, h.
        embedding = sine_embedding(boxes[..., [1, 0, 2, 3]] * 2 * math.pi, hidden.out_features // 2)
        return output(hidden(embedding.flatten(2).to(hidden.weight.dtype)).relu())
