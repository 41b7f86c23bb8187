"""The head: classes and boxes from the decoder's output, their losses, the final detections."""

import copy
from collections.abc import Callable
from itertools import chain
from typing import TYPE_CHECKING

import torch
from mmdet.structures import SampleList
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.model import BaseModule, bias_init_with_prob, constant_init
from mmengine.structures import InstanceData
from torch import Tensor, nn

from .geometry import boxes_in_pixels, refine, upcast
from .matching.assigner import Matches, Predictions
from .matching.targets import Targets
from .registry import MODELS, TASK_UTILS

if TYPE_CHECKING:
    from projects.dino.denoising import NoisedQueries


@MODELS.register_module()
class DeformableDETRHead(BaseModule):
    """A linear class branch and a small MLP for the box on each decoder layer (paper, section A.4).

    Args:
        num_classes: number of classes, without background.
        embed_dims: width of the transformer.
        num_reg_fcs: hidden layers of the box branch.
        inverse_sigmoid_eps: how near 0 and 1 a reference is corrected; detrex has 1e-3.
        sync_cls_avg_factor: normalise the class loss by the objects of all processes, as the others.
        loss_cls: sigmoid class loss.
        loss_bbox: loss of boxes in [0, 1].
        loss_iou: loss of boxes in pixels.
        share_pred_layer: all layers share their branches (set by the detector).
        num_pred_layer: number of branches, with the encoder's own, which is the last (set by the detector).
        as_two_stage: the encoder predicts, so that every reference is a box (set by the detector).
        encoder_classifies: it predicts classes, not "object" alone (set by the detector).
        train_cfg: holds the ``assigner``.
        test_cfg: holds ``max_per_img``, the number of detections kept.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        num_classes: int,
        embed_dims: int = 256,
        num_reg_fcs: int = 2,
        inverse_sigmoid_eps: float = 1e-5,
        sync_cls_avg_factor: bool = False,
        loss_cls: dict = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=2.0),
        loss_bbox: dict = dict(type="L1Loss", loss_weight=5.0),
        loss_iou: dict = dict(type="GIoULoss", loss_weight=2.0),
        share_pred_layer: bool = False,
        num_pred_layer: int = 6,
        as_two_stage: bool = False,
        encoder_classifies: bool = False,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.inverse_sigmoid_eps = inverse_sigmoid_eps
        self.sync_cls_avg_factor = sync_cls_avg_factor
        self.as_two_stage = as_two_stage
        self.encoder_classifies = encoder_classifies
        self.max_per_img = (test_cfg or {}).get("max_per_img", 100)
        self.loss_cls = MODELS.build(loss_cls)
        by_class = [key for key, value in loss_cls.items() if isinstance(value, (list, tuple))]
        # Where the encoder's only class is "object", what is set a class is not for it.
        left_out = () if encoder_classifies else by_class
        self.enc_loss_cls = MODELS.build({key: loss_cls[key] for key in loss_cls.keys() - left_out})
        self.loss_bbox = MODELS.build(loss_bbox)
        self.loss_iou = MODELS.build(loss_iou)
        if not self.loss_cls.use_sigmoid:
            raise ValueError("loss_cls must have use_sigmoid=True: there is no background class")
        for key in by_class:
            if len(loss_cls[key]) != num_classes:
                raise ValueError(
                    f"loss_cls.{key} has {len(loss_cls[key])} numbers for num_classes={num_classes}"
                )
        if train_cfg:
            self.assigner = TASK_UTILS.build(train_cfg["assigner"])

        def branches(make: Callable[[], nn.Module]) -> nn.ModuleList:
            first = make()
            rest = (first if share_pred_layer else copy.deepcopy(first) for _ in range(1, num_pred_layer))
            return nn.ModuleList([first, *rest])

        def reg_branch() -> nn.Sequential:
            hidden = [(nn.Linear(embed_dims, embed_dims), nn.ReLU()) for _ in range(num_reg_fcs)]
            return nn.Sequential(*chain.from_iterable(hidden), nn.Linear(embed_dims, 4))

        self.cls_branches = branches(lambda: nn.Linear(embed_dims, num_classes))
        self.reg_branches = branches(reg_branch)

    def init_weights(self) -> None:
        """Focal prior 0.01; zero deltas, and a tenth of the image as size where the reference is a point."""
        for branch in self.cls_branches:
            nn.init.constant_(branch.bias, bias_init_with_prob(0.01))
        for branch in self.reg_branches:
            constant_init(branch[-1], 0, bias=0)
        if not self.as_two_stage:
            nn.init.constant_(self.reg_branches[0][-1].bias.data[2:], -2.0)

    def forward(self, hidden_states: Tensor, references: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Predict on each decoder layer.

        Args:
            hidden_states: (num_layers, bs, num_queries, embed_dims).
            references: the points or boxes that went into each layer, (bs, num_queries, 2 or 4).

        Returns:
            Class logits (num_layers, bs, num_queries, num_classes) and boxes
            (num_layers, bs, num_queries, 4), cx, cy, w, h in [0, 1].
        """
        # The branches of the encoder, which come last, are left out.
        cls_scores = [self.cls_branches[i](x) for i, x in enumerate(hidden_states)]
        bbox_preds = [
            self.refine_layer(i, x, reference)
            for i, (x, reference) in enumerate(zip(hidden_states, references, strict=True))
        ]
        return torch.stack(cls_scores), torch.stack(bbox_preds)

    def refine_layer(
        self, layer: int, hidden_state: Tensor, reference: Tensor, eps: float | None = None
    ) -> Tensor:
        """The boxes (bs, num_queries, 4) that a layer of this index makes of its references.

        ``eps`` is ``inverse_sigmoid_eps`` by default.
        """
        return refine(self.reg_branches[layer](hidden_state), reference, eps or self.inverse_sigmoid_eps)

    def loss(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        enc_outputs_class: Tensor | None,
        enc_outputs_coord: Tensor | None,
        batch_data_samples: SampleList,
        noised: "NoisedQueries | None" = None,
    ) -> dict[str, Tensor]:
        """Match and compare the predictions of each layer.

        Args:
            hidden_states: see `forward`.
            references: see `forward`.
            enc_outputs_class: (bs, num_value or num_queries, num_classes), logits; None unless two-stage.
            enc_outputs_coord: (bs, num_value or num_queries, 4) in [0, 1]; None unless two-stage.
            batch_data_samples: the objects of each image.
            noised: the denoising queries, which come first; None without.

        Returns:
            ``loss_cls``, ``loss_bbox``, ``loss_iou`` of the last decoder layer, ``d0.loss_cls`` and so on of
            the others, ``enc_loss_cls`` and so on of the encoder, ``dn_loss_cls``, ``d0.dn_loss_cls`` and so
            on of the denoising queries; scalars.
        """
        targets = Targets.from_samples(batch_data_samples)
        outputs = self(hidden_states, references)
        num_noised = noised.query.shape[1] if noised else 0

        def decoder_layers(name: str, part: slice) -> list[tuple[str, Predictions]]:
            *auxiliary, last = zip(*(x[:, :, part] for x in outputs), strict=True)
            named = [(name, last), *((f"d{i}.{name}", layer) for i, layer in enumerate(auxiliary))]
            return [(prefix, Predictions(*layer, targets)) for prefix, layer in named]

        layers = decoder_layers("", slice(num_noised, None))
        if enc_outputs_class is not None:
            of_encoder = targets if self.encoder_classifies else targets.as_objects()
            layers += [("enc_", Predictions(enc_outputs_class, enc_outputs_coord, of_encoder))]
        matches = self.assigner.assign([predictions for _, predictions in layers])
        copies = [1] * len(layers)  # of each object in a layer's matches
        if noised:
            layers += decoder_layers("dn_", slice(num_noised))
            matches += [noised.matches] * len(hidden_states)
            copies += [noised.num_groups] * len(hidden_states)

        num_queries = [predictions.cls_scores.shape[1] for _, predictions in layers]
        normalisers = cls_normalisers = targets.normalisers(num_queries, copies)
        if not self.sync_cls_avg_factor:
            cls_normalisers = targets.normalisers(num_queries, copies, synced=False)
        losses = {}
        for (prefix, predictions), matched, normaliser, cls_normaliser in zip(
            layers, matches, normalisers, cls_normalisers, strict=True
        ):
            loss = self.enc_loss_cls if prefix == "enc_" else self.loss_cls
            loss_cls, loss_bbox, loss_iou = self.layer_losses(predictions, matched, loss)
            losses[f"{prefix}loss_cls"] = loss_cls / cls_normaliser
            losses[f"{prefix}loss_bbox"] = loss_bbox / normaliser
            losses[f"{prefix}loss_iou"] = loss_iou / normaliser
        return losses

    def layer_losses(
        self, predictions: Predictions, matches: Matches, loss_cls: nn.Module | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The losses of a layer's classes (by default with ``self.loss_cls``), boxes and overlaps, summed."""
        loss_cls = loss_cls or self.loss_cls
        cls_scores, preds, targets = predictions
        cls_scores = upcast(cls_scores)
        image, query, obj = matches
        is_class = torch.zeros_like(cls_scores)
        is_class[image, query, targets.labels[image, obj]] = 1
        preds, boxes = preds[image, query], targets.boxes[image, obj]
        sizes = targets.img_sizes[image, 0]
        corners = bbox_cxcywh_to_xyxy(preds) * sizes, bbox_cxcywh_to_xyxy(boxes) * sizes
        return (
            loss_cls(cls_scores, is_class, reduction_override="none").sum(),
            self.loss_bbox(preds, boxes, reduction_override="none").sum(),
            self.loss_iou(*corners, reduction_override="none").sum(),
        )

    def predict(
        self,
        hidden_states: Tensor,
        references: list[Tensor],
        batch_data_samples: SampleList,
        rescale: bool = True,
    ) -> list[InstanceData]:
        """The best (query, class) pairs of the last decoder layer.

        Args:
            hidden_states: see `forward`.
            references: see `forward`.
            batch_data_samples: the metainfo holds ``img_shape`` and, if resized, ``scale_factor``.
            rescale: boxes in pixels of the original image, not of the network's input.

        Returns:
            For each image ``bboxes`` (n, 4) as x1, y1, x2, y2, ``scores`` (n,) in [0, 1], falling,
            ``labels`` (n,); n is at most ``max_per_img``.
        """
        sizes = torch.tensor([sample.img_shape[:2] for sample in batch_data_samples])
        found = self.detect(hidden_states, references, sizes.to(hidden_states.device))
        results = []
        for boxes, scores, labels, sample in zip(*found, batch_data_samples, strict=True):
            if rescale:
                # A pipeline without a resize leaves no scale factor.
                factor = sample.metainfo.get("scale_factor", (1.0, 1.0))
                boxes = boxes / boxes.new_tensor(factor).repeat(2)
            results.append(InstanceData(bboxes=boxes, scores=scores, labels=labels))
        return results

    def detect(
        self, hidden_states: Tensor, references: list[Tensor], img_sizes: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """What `predict` returns, in pixels of the network's input, of all images (bs) as tensors.

        ``img_sizes`` (bs, 2) are height and width. Returns boxes (bs, n, 4), scores and labels (bs, n).
        """
        last = len(references) - 1
        scores = upcast(self.cls_branches[last](hidden_states[last])).sigmoid().flatten(1)
        scores, best = scores.topk(torch.sym_min(self.max_per_img, scores.shape[1]))
        boxes = self.refine_layer(last, hidden_states[last], references[last])
        boxes = boxes.gather(1, (best // self.num_classes)[..., None].expand(-1, -1, 4))
        return boxes_in_pixels(boxes, img_sizes), scores, best % self.num_classes
