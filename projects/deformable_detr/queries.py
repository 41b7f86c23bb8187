"""Where object queries come from: learnt once for all images, or proposed by the encoder."""

import math
from typing import NamedTuple

import torch
from mmengine.model import BaseModule, xavier_init
from torch import Tensor, nn

from .geometry import sine_embedding, token_centres, upcast
from .levels import Levels
from .registry import MODELS


class Queries(NamedTuple):
    """What the decoder starts from, and what the encoder predicted on the way."""

    query: Tensor  # (bs, num_queries, embed_dims)
    query_pos: Tensor | None  # (bs, num_queries, embed_dims); None leaves them to the decoder
    reference_points: Tensor  # (bs, num_queries, 2 or 4) in [0, 1]
    enc_outputs_class: Tensor | None = None  # (bs, num_value or num_queries, num_classes), logits
    enc_outputs_coord: Tensor | None = None  # (bs, num_value or num_queries, 4), cx, cy, w, h in [0, 1]


@MODELS.register_module()
class LearnedQueries(BaseModule):
    """Queries that are parameters; a linear layer makes their reference points (paper, section 4.2).

    Args:
        num_queries: number of object queries.
        embed_dims: width of the transformer.
        init_cfg: mmengine's initialisation.
    """

    def __init__(self, num_queries: int, embed_dims: int, init_cfg: dict | None = None) -> None:
        super().__init__(init_cfg)
        self.num_queries = num_queries
        self.query_embedding = nn.Embedding(num_queries, embed_dims * 2)
        self.reference_points_fc = nn.Linear(embed_dims, 2)

    def init_weights(self) -> None:
        """Spread the reference points over the image."""
        xavier_init(self.reference_points_fc, distribution="uniform", bias=0.0)

    def forward(self, memory: Tensor, *_) -> Queries:
        """The same queries for each image of ``memory`` (bs, num_value, embed_dims)."""
        query_pos, query = self.query_embedding.weight.chunk(2, dim=1)
        with torch.autocast(memory.device.type, enabled=False):
            reference_points = self.reference_points_fc(query_pos).sigmoid()
        return Queries(*(x.expand(memory.shape[0], -1, -1) for x in (query, query_pos, reference_points)))


@MODELS.register_module()
class EncoderTokenQueries(BaseModule):
    """Every token of the encoder proposes one object (paper, section 4.2 "Two-Stage" and A.4).

    Alone it is what a model without decoder predicts from, the encoder-only DETR of Sun et al.,
    "Rethinking Transformer-based Set Prediction for Object Detection" (ICCV 2021), section 3.

    Args:
        embed_dims: width of the transformer.
        base_size: side of the box that a token of the finest level proposes, in shares of the image;
            it doubles from level to level.
        num_queries: not looked at; there are as many as tokens.
        **kwargs: ``init_cfg``, mmengine's initialisation.
    """

    proposes_classes = False  # the proposals of a first stage are objects of no class

    def __init__(self, embed_dims: int, base_size: float = 0.05, num_queries: int = 0, **kwargs) -> None:
        super().__init__(**kwargs)
        self.base_size = base_size
        self.memory_trans_fc = nn.Linear(embed_dims, embed_dims)
        self.memory_trans_norm = nn.LayerNorm(embed_dims)

    def init_weights(self) -> None:
        """Xavier weights; the biases stay as torch makes them."""
        nn.init.xavier_uniform_(self.memory_trans_fc.weight)

    def forward(self, memory: Tensor, levels: Levels, *_) -> Queries:
        """One query a token of ``memory`` (bs, num_value, embed_dims), with a box as its reference."""
        features, boxes_unact = self.propose(memory, levels)
        return Queries(features, None, boxes_unact.sigmoid())

    def propose(self, memory: Tensor, levels: Levels) -> tuple[Tensor, Tensor]:
        """Features (bs, num_value, embed_dims) to predict from, and `token_boxes` to correct."""
        boxes_unact, usable = self.token_boxes(levels)
        return self.memory_trans_norm(self.memory_trans_fc(memory * usable[..., None])), boxes_unact

    def token_boxes(self, levels: Levels) -> tuple[Tensor, Tensor]:
        """The box that each token proposes before it is corrected.

        Returns:
            Boxes (bs, num_value, 4) before the sigmoid, infinite where the token is not usable; and which
            tokens are: not padding, and the box in (0.01, 0.99). (bs, num_value), bool.
        """
        boxes = []
        for level, (h, w) in enumerate(levels.shapes):
            y, x = token_centres(h, w, levels.valid_sizes.device)
            valid_w, valid_h = levels.valid_sizes[:, level].unbind(-1)
            x = x.flatten() / valid_w[:, None]  # (bs, h * w)
            y = y.flatten() / valid_h[:, None]
            size = torch.full_like(x, self.base_size * 2.0**level)
            boxes.append(torch.stack((x, y, size, size), -1))
        boxes = torch.cat(boxes, 1)
        usable = ((boxes > 0.01) & (boxes < 0.99)).all(-1)
        if levels.padding_mask is not None:
            usable = usable & ~levels.padding_mask
        boxes_unact = torch.log(boxes / (1 - boxes))
        return boxes_unact.masked_fill(~usable[..., None], math.inf), usable


@MODELS.register_module()
class TwoStageQueries(EncoderTokenQueries):
    """The encoder's best-scored boxes become the queries (paper, section 4.2 "Two-Stage" and A.4).

    Args:
        num_queries: number of proposals kept.
        embed_dims: width of the transformer; even.
        **kwargs: of `EncoderTokenQueries`.
    """

    def __init__(self, num_queries: int, embed_dims: int, **kwargs) -> None:
        super().__init__(embed_dims, **kwargs)
        self.num_queries = num_queries
        self.pos_trans_fc = nn.Linear(embed_dims * 2, embed_dims * 2)
        self.pos_trans_norm = nn.LayerNorm(embed_dims * 2)

    def init_weights(self) -> None:
        """Xavier weights; the biases stay as torch makes them."""
        super().init_weights()
        nn.init.xavier_uniform_(self.pos_trans_fc.weight)

    def forward(
        self, memory: Tensor, levels: Levels, cls_branch: nn.Module, reg_branch: nn.Module
    ) -> Queries:
        """Score a box for every token and keep the best.

        Args:
            memory: (bs, num_value, embed_dims).
            levels: where the tokens are.
            cls_branch: the head's class branch for the encoder; its first class means "object".
            reg_branch: the head's box branch for the encoder.

        Returns:
            Queries with 4-d reference points; at most num_value of them.
        """
        features, boxes_unact = self.propose(memory, levels)
        enc_outputs_class = cls_branch(features)
        enc_unact = upcast(reg_branch(features)) + boxes_unact

        num_queries = torch.sym_min(self.num_queries, memory.shape[1])
        best = enc_outputs_class[..., 0].topk(num_queries, dim=1).indices
        # No gradient through the proposals: the decoder corrects them, the encoder's own loss moves them.
        references = enc_unact.gather(1, best[..., None].expand(-1, -1, 4)).detach().sigmoid()
        query_pos, query = self.embed_boxes(references).chunk(2, dim=-1)
        return Queries(query, query_pos, references, enc_outputs_class, enc_unact.sigmoid())

    def embed_positions(self, boxes: Tensor) -> Tensor:
        """Positions (bs, n, embed_dims) of queries whose references are ``boxes`` (bs, n, 4) in [0, 1]."""
        return self.embed_boxes(boxes).chunk(2, dim=-1)[0]

    def embed_boxes(self, boxes: Tensor) -> Tensor:
        """Boxes (bs, n, 4) in [0, 1] as queries and their positions, (bs, n, 2 * embed_dims)."""
        num_feats = self.pos_trans_fc.in_features // 4
        embedding = sine_embedding(boxes * 2 * math.pi, num_feats).flatten(2)
        return self.pos_trans_norm(self.pos_trans_fc(embedding.to(self.pos_trans_fc.weight.dtype)))
