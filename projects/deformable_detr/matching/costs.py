"""What it costs to match a prediction with an object (paper, section A.4; DETR, section 3.1)."""

import torch
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy, bbox_overlaps
from torch import Tensor

from ..registry import TASK_UTILS
from .targets import Targets


@TASK_UTILS.register_module()
class FocalLossCost:
    """The focal loss of calling a prediction an object's class, less that of calling it nothing.

    Args:
        weight: factor of the cost.
        alpha: weight of the positive term, in [0, 1].
        gamma: focus on hard examples, >= 0.
        eps: keeps the logarithms finite.
    """

    def __init__(
        self, weight: float = 1.0, alpha: float = 0.25, gamma: float = 2.0, eps: float = 1e-12
    ) -> None:
        if not isinstance(alpha, float | int):
            raise ValueError(f"alpha of the cost must be one number for all classes, not {alpha!r}")
        self.weight = weight
        self.alpha = alpha
        self.gamma = gamma
        self.eps = eps

    def __call__(self, cls_scores: Tensor, bbox_preds: Tensor, targets: Targets) -> Tensor:
        """See `HungarianAssigner.cost`."""
        num_queries = cls_scores.shape[-2]
        labels = targets.labels[:, None].expand(*cls_scores.shape[:-2], num_queries, -1)
        p = cls_scores.gather(-1, labels).sigmoid()
        positive = -(p + self.eps).log() * self.alpha * (1 - p).pow(self.gamma)
        negative = -(1 - p + self.eps).log() * (1 - self.alpha) * p.pow(self.gamma)
        return (positive - negative) * self.weight


@TASK_UTILS.register_module()
class BBoxL1Cost:
    """The L1 distance of boxes in shares of the image.

    Args:
        box_format: "xywh" compares centre and size, "xyxy" the corners.
        weight: factor of the cost.
    """

    def __init__(self, box_format: str = "xyxy", weight: float = 1.0) -> None:
        if box_format not in ("xyxy", "xywh"):
            raise ValueError(f"box_format must be 'xyxy' or 'xywh', not {box_format!r}")
        self.box_format = box_format
        self.weight = weight

    def __call__(self, cls_scores: Tensor, bbox_preds: Tensor, targets: Targets) -> Tensor:
        """See `HungarianAssigner.cost`."""
        boxes = targets.boxes
        if self.box_format == "xyxy":
            bbox_preds, boxes = bbox_cxcywh_to_xyxy(bbox_preds), bbox_cxcywh_to_xyxy(boxes)
        return torch.cdist(bbox_preds, boxes.to(bbox_preds.dtype), p=1) * self.weight


@TASK_UTILS.register_module()
class IoUCost:
    """Minus the overlap of boxes.

    Args:
        iou_mode: "giou" (Rezatofighi et al. 2019) or "iou".
        weight: factor of the cost.
    """

    def __init__(self, iou_mode: str = "giou", weight: float = 1.0) -> None:
        self.iou_mode = iou_mode
        self.weight = weight

    def __call__(self, cls_scores: Tensor, bbox_preds: Tensor, targets: Targets) -> Tensor:
        """See `HungarianAssigner.cost`."""
        boxes = targets.to_pixels(targets.boxes).to(bbox_preds.dtype)
        overlaps = bbox_overlaps(targets.to_pixels(bbox_preds), boxes, mode=self.iou_mode)
        return -overlaps * self.weight
