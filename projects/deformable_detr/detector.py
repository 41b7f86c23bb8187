"""The detector: the order of the stages and nothing else."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from mmdet.models.detectors import BaseDetector
from mmdet.structures import SampleList
from torch import Tensor, nn

from .attention import MultiScaleDeformableAttention
from .levels import Levels
from .names import use_mmdets_names
from .registry import MODELS
from .sizes import check_frozen, check_pieces, check_sizes

if TYPE_CHECKING:
    from projects.dino.denoising import NoisedQueries


@MODELS.register_module()
class DeformableDETR(BaseDetector):
    """Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159), its two variants, and DINO.

    DINO (Zhang et al., ICLR 2023, arXiv 2203.03605) is the two-stage variant with ``MixedQueries``,
    ``denoising``, and a decoder with ``look_forward_twice``; each can be had alone. The names of the
    parameters in the ``state_dict`` are those of mmdet 3.x (`names`).

    Args:
        backbone: config of the backbone.
        neck: config of the neck; gives ``num_feature_levels`` levels of the transformer's width.
        encoder: config of the encoder.
        decoder: config of the decoder; None predicts from every token of the encoder.
        positional_encoding: config of the positional encoding; gives the transformer's width.
        bbox_head: config of the head.
        num_queries: object queries an image, the most objects that can be found in it; without a decoder
            every token is one.
        num_feature_levels: number of feature levels.
        with_box_refine: each decoder layer refines the boxes of the one before.
        as_two_stage: the encoder proposes the first boxes; includes the refinement.
        queries: config of the queries; by default `LearnedQueries`, `TwoStageQueries` if ``as_two_stage``,
            `EncoderTokenQueries` without a decoder.
        denoising: config of the denoising queries in training, e.g. `ContrastiveDenoising`.
        train_cfg: goes to the head; holds the ``assigner``.
        test_cfg: goes to the head; holds ``max_per_img``.
        data_preprocessor: config of mmdet's ``DetDataPreprocessor``.
        init_cfg: mmengine's initialisation.
    """

    normalises_by_step = True  # losses are divided by the objects of all batches of an optimizer step

    def __init__(
        self,
        backbone: dict,
        neck: dict,
        encoder: dict,
        decoder: dict | None,
        positional_encoding: dict,
        bbox_head: dict,
        num_queries: int = 300,
        num_feature_levels: int = 4,
        with_box_refine: bool = False,
        as_two_stage: bool = False,
        queries: dict | None = None,
        denoising: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.num_queries = num_queries if decoder else None
        self.with_box_refine = with_box_refine
        check_frozen(backbone)
        self.backbone = MODELS.build(backbone)
        self.neck = MODELS.build(neck)
        sine = dict(type="SinePositionalEncoding")
        self.positional_encoding = MODELS.build(positional_encoding, default_args=sine)
        self.encoder = MODELS.build(encoder, default_args=dict(type="DeformableDetrTransformerEncoder"))
        stack = dict(type="DeformableDetrTransformerDecoder")
        self.decoder = None if decoder is None else MODELS.build(decoder, default_args=stack)
        embed_dims = self.encoder.embed_dims
        self.level_embed = nn.Parameter(torch.empty(num_feature_levels, embed_dims))
        of_decoder = "TwoStageQueries" if as_two_stage else "LearnedQueries"
        default = dict(type="EncoderTokenQueries" if decoder is None else of_decoder)
        sizes = dict(num_queries=num_queries, embed_dims=embed_dims)
        self.queries = MODELS.build(default if queries is None else queries, default_args=sizes)
        encoder_predicts = as_two_stage or decoder is None
        num_layers = 0 if decoder is None else len(self.decoder.layers)
        self.bbox_head = MODELS.build(
            dict(
                bbox_head,
                share_pred_layer=not with_box_refine,
                num_pred_layer=num_layers + 1 if encoder_predicts else num_layers,
                as_two_stage=encoder_predicts,
                encoder_classifies=getattr(self.queries, "proposes_classes", False),
                train_cfg=train_cfg,
                test_cfg=test_cfg,
            )
        )
        self.denoising = None
        if denoising is not None:
            sizes = dict(embed_dims=embed_dims, num_classes=self.bbox_head.num_classes)
            self.denoising = MODELS.build(denoising, default_args=sizes)
        check_pieces(self, as_two_stage)
        check_sizes(self, num_feature_levels)
        use_mmdets_names(self)

    def init_weights(self) -> None:
        """Xavier for the transformer, then what each part says of itself (paper, section A.4)."""
        super().init_weights()
        for stack in filter(None, (self.encoder, self.decoder)):
            for parameter in stack.parameters():
                if parameter.dim() > 1:
                    nn.init.xavier_uniform_(parameter)
        for module in self.modules():
            if isinstance(module, MultiScaleDeformableAttention):
                module.reset_parameters()
        nn.init.normal_(self.level_embed)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Images (bs, 3, h, w) to levels (bs, embed_dims, h_i, w_i)."""
        return self.neck(self.backbone(batch_inputs))

    def forward_transformer(
        self,
        batch_inputs: Tensor,
        img_shapes: Sequence[tuple[int, int]] | Tensor,
        noised: "NoisedQueries | None" = None,
    ) -> dict:
        """Images to what the head takes.

        Args:
            batch_inputs: (bs, 3, h, w), normalised and padded.
            img_shapes: see `Levels.of_batch`.
            noised: denoising queries, which are put in front of the others.

        Returns:
            ``hidden_states`` (num_layers, bs, num_queries, embed_dims), ``references`` (a list of
            (bs, num_queries, 2 or 4), one a layer), ``enc_outputs_class`` and ``enc_outputs_coord``
            (None unless two-stage; see `Queries`). Without a decoder the tokens are the queries of one layer.
        """
        feats = self.extract_feat(batch_inputs)
        shapes = [feat.shape[-2:] for feat in feats]
        levels = Levels.of_batch(img_shapes, batch_inputs.shape[-2:], shapes, batch_inputs.device)
        tokens = torch.cat([feat.flatten(2).transpose(1, 2) for feat in feats], 1)
        memory = self.encoder(tokens, self.embed_positions(levels), levels)
        head = self.bbox_head
        queries = self.queries(memory, levels, head.cls_branches[-1], head.reg_branches[-1])
        mask = None
        if noised is not None:
            mask = noised.self_attn_mask(queries.query.shape[1])
            queries = noised.before(queries, self.queries.embed_positions(noised.reference_points))
        if self.decoder is None:
            hidden_states, references = queries.query[None], [queries.reference_points]
        else:
            hidden_states, references = self.decoder(
                queries.query,
                queries.query_pos,
                memory,
                queries.reference_points,
                levels,
                head.refine_layer if self.with_box_refine else None,
                mask,
            )
        return dict(
            hidden_states=hidden_states,
            references=references,
            enc_outputs_class=queries.enc_outputs_class,
            enc_outputs_coord=queries.enc_outputs_coord,
        )

    def embed_positions(self, levels: Levels) -> Tensor:
        """Position plus level of every token, (bs, num_value, embed_dims)."""
        embedded = [
            self.positional_encoding(mask).flatten(1, 2) + level
            for mask, level in zip(levels.masks, self.level_embed, strict=True)
        ]
        return torch.cat(embedded, 1)

    def loss(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> dict[str, Tensor]:
        """Losses by name; see `DeformableDETRHead.loss`."""
        noised = self.denoising(batch_data_samples) if self.denoising is not None else None
        outputs = self.forward_transformer(batch_inputs, _img_shapes(batch_data_samples), noised)
        return self.bbox_head.loss(**outputs, batch_data_samples=batch_data_samples, noised=noised)

    def predict(
        self, batch_inputs: Tensor, batch_data_samples: SampleList, rescale: bool = True
    ) -> SampleList:
        """The samples with ``pred_instances``, in pixels of the original image if ``rescale``."""
        outputs = self.forward_transformer(batch_inputs, _img_shapes(batch_data_samples))
        results = self.bbox_head.predict(
            outputs["hidden_states"], outputs["references"], batch_data_samples, rescale
        )
        return self.add_pred_to_datasample(batch_data_samples, results)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: SampleList) -> tuple[Tensor, Tensor]:
        outputs = self.forward_transformer(batch_inputs, _img_shapes(batch_data_samples))
        return self.bbox_head(outputs["hidden_states"], outputs["references"])


def _img_shapes(batch_data_samples: SampleList) -> list[tuple[int, int]]:
    return [sample.img_shape[:2] for sample in batch_data_samples]
