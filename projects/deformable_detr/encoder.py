"""The encoder: every token of every level attends to a few tokens of every level."""

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from torch import Tensor, nn

from .checkpointing import checkpointed
from .geometry import encoder_reference_points
from .levels import Levels
from .registry import MODELS

# The layers add the residual. mmcv's ReLU works in place on a view, for which autograd copies the gradient.
FFN_DEFAULTS = dict(type="FFN", act_cfg=dict(type="ReLU"), add_identity=False)


@MODELS.register_module()
class DeformableDetrTransformerEncoderLayer(BaseModule):
    """Deformable self-attention, then a feed-forward network, each followed by a norm.

    Args:
        self_attn_cfg: of `MultiScaleDeformableAttention`.
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
        self.self_attn = MODELS.build(self_attn_cfg, default_args=dict(type="MultiScaleDeformableAttention"))
        self.ffn = MODELS.build(ffn_cfg, default_args=FFN_DEFAULTS)
        self.embed_dims = self.self_attn.embed_dims
        self.norms = nn.ModuleList(build_norm_layer(norm_cfg, self.embed_dims)[1] for _ in range(2))

    def forward(self, query: Tensor, query_pos: Tensor, reference_points: Tensor, levels: Levels) -> Tensor:
        """One layer; arguments as in `MultiScaleDeformableAttention`, whose value is the query here."""
        attended = self.self_attn(query, query_pos, query, reference_points, levels)
        query = self.norms[0](query + attended)
        return self.norms[1](query + self.ffn(query))


@MODELS.register_module()
class DeformableDetrTransformerEncoder(BaseModule):
    """A stack of encoder layers (paper, section 4.2, "Deformable Transformer Encoder").

    Args:
        num_layers: number of layers.
        layer_cfg: of the layer.
        num_cp: number of layers, from the first on, with activation checkpointing.
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

    def forward(self, query: Tensor, query_pos: Tensor, levels: Levels) -> Tensor:
        """Encode the tokens.

        Args:
            query: (bs, num_value, embed_dims), the levels flattened and put one after the other.
            query_pos: same shape, position and level of each token.
            levels: where the tokens are.

        Returns:
            The memory, (bs, num_value, embed_dims).
        """
        reference_points = encoder_reference_points(levels)
        for i, layer in enumerate(self.layers):
            layer = checkpointed(layer, i < self.num_cp)
            query = layer(query, query_pos, reference_points, levels)
        return query
