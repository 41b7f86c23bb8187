"""Queries whose places the encoder proposes and whose contents are learnt."""

import torch
from torch import Tensor, nn

from projects.deformable_detr.geometry import upcast
from projects.deformable_detr.levels import Levels
from projects.deformable_detr.queries import EncoderTokenQueries, Queries
from projects.deformable_detr.registry import MODELS


@MODELS.register_module()
class MixedQueries(EncoderTokenQueries):
    """Mixed query selection (DINO, arXiv 2203.03605, section 3.4).

    The best-scored boxes of the encoder are the references; the contents are the same for all images. The
    encoder tells classes apart, and its loss is that of the selected tokens alone. Positions are those that a
    decoder with ``embed_references`` makes of the references. ``kwargs`` are those of `EncoderTokenQueries`.
    """

    proposes_classes = True

    def __init__(self, num_queries: int, embed_dims: int, **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        self.num_queries = num_queries
        self.query_embedding = nn.Embedding(num_queries, embed_dims)

    def init_weights(self) -> None:
        """Xavier weights; the biases stay as torch makes them."""
        super().init_weights()
        nn.init.xavier_uniform_(self.query_embedding.weight)

    def forward(
        self, memory: Tensor, levels: Levels, cls_branch: nn.Module, reg_branch: nn.Module
    ) -> Queries:
        """Score every token and keep the best; arguments as in `TwoStageQueries`.

        Returns:
            Queries without positions, their ``enc_outputs`` those of the selected tokens (bs, num_queries).
        """
        features, boxes_unact = self.propose(memory, levels)
        enc_outputs_class = cls_branch(features)
        num_queries = torch.sym_min(self.num_queries, memory.shape[1])
        best = enc_outputs_class.amax(-1).topk(num_queries, dim=1).indices[..., None]
        features, boxes_unact, scores = (
            x.gather(1, best.expand(-1, -1, x.shape[-1])) for x in (features, boxes_unact, enc_outputs_class)
        )
        boxes = (upcast(reg_branch(features)) + boxes_unact).sigmoid()
        query = self.query_embedding.weight[:num_queries].expand(memory.shape[0], -1, -1)
        return Queries(query, None, boxes.detach(), scores, boxes)

    def embed_positions(self, boxes: Tensor) -> None:
        """Nothing: the decoder makes the positions of ``boxes`` (bs, n, 4)."""
