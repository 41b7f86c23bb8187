"""The true boxes of an image, and which query the losses match with each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from projects.deformable_detr.matching.assigner import HungarianAssigner, Predictions
from projects.deformable_detr.matching.targets import Targets
from projects.reliable_runner.checks.class_names import class_names
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.run_state import leaf_datasets

from .frame import ImageFrame


@dataclass
class TrueBoxes:
    """The objects of an image, without crowds and other boxes that a loss ignores."""

    boxes: Tensor  # (n, 4), x1, y1, x2, y2 in pixels of the original image
    names: list[str]  # of their classes


def read_truth(cfg: Config, split: str, paths: Sequence[str | Path]) -> list[TrueBoxes]:
    """The true boxes of image files, in the data set of ``<split>_dataloader``.

    Raises:
        InputError: the config has no such data set, or it lacks one of the images.
    """
    if not cfg.get(f"{split}_dataloader"):
        raise InputError(f"--split {split}: {cfg.filename} has no {split}_dataloader")
    init_default_scope(cfg.get("default_scope") or "mmdet")
    wanted, found = {Path(path).resolve(): path for path in paths}, {}
    for dataset in leaf_datasets(DATASETS.build(cfg[f"{split}_dataloader"].dataset)):
        classes = class_names(dataset.metainfo)
        for info in map(dataset.get_data_info, range(len(dataset))):
            if (path := Path(info["img_path"]).resolve()) in wanted:
                found[path] = true_boxes(info["instances"], classes)
    for path, name in wanted.items():
        if path not in found:
            raise InputError(f"--split {split}: the data set of {cfg.filename} has no image {name}")
    return [found[Path(path).resolve()] for path in paths]


def true_boxes(instances: Sequence[dict], classes: Sequence[str]) -> TrueBoxes:
    """Those of the ``instances`` of a data set whose labels stand for ``classes``."""
    used = [instance for instance in instances if not instance.get("ignore_flag")]
    boxes = torch.tensor([instance["bbox"] for instance in used], dtype=torch.float32).view(-1, 4)
    return TrueBoxes(boxes, [classes[instance["bbox_label"]] for instance in used])


def matched_queries(
    detector: nn.Module, sample: DetDataSample, cls_scores: Tensor, bbox_preds: Tensor, truth: TrueBoxes
) -> Tensor:
    """The query that the losses of each layer match with each true box of an image.

    Nothing is matched by a detector without an assigner, and nothing of classes that it does not know.
    Scores (num_layers, 1, num_queries, num_classes) and boxes (num_layers, 1, num_queries, 4) are those of
    `predict`. Returns (num_layers, number of true boxes), -1 where there is none.
    """
    classes = list(detector.dataset_meta["classes"])
    known = torch.tensor([i for i, name in enumerate(truth.names) if name in classes], dtype=torch.long)
    matched = torch.full((len(cls_scores), len(truth.names)), -1)
    assigner = getattr(detector.bbox_head, "assigner", None)
    if assigner is None or not len(known):
        return matched
    corners = ImageFrame.of_input(sample).to_units(truth.boxes[known].unflatten(-1, (2, 2)))
    boxes = torch.cat((corners.amin(-2), corners.amax(-2)), -1)
    labels = torch.tensor([classes.index(truth.names[i]) for i in known])
    objects = InstanceData(bboxes=boxes, labels=labels)
    if isinstance(assigner, HungarianAssigner):
        pairs = _match_here(assigner, sample, cls_scores, bbox_preds, objects)
    else:
        pairs = _match_in_mmdet(assigner, sample, cls_scores, bbox_preds, objects)
    for layer, (query, index) in enumerate(pairs):
        matched[layer, known[index]] = query
    return matched


def _match_here(assigner, sample, cls_scores, bbox_preds, objects) -> list[tuple[Tensor, Tensor]]:
    targets = Targets.from_samples([DetDataSample(metainfo=sample.metainfo, gt_instances=objects)])
    layers = [Predictions(*layer, targets) for layer in zip(cls_scores, bbox_preds, strict=True)]
    return [(matches.query, matches.object) for matches in assigner.assign(layers)]


def _match_in_mmdet(assigner, sample, cls_scores, bbox_preds, objects) -> list[tuple[Tensor, Tensor]]:
    size = bbox_preds.new_tensor(sample.img_shape[1::-1] * 2)
    pairs = []
    for scores, boxes in zip(cls_scores[:, 0], bbox_preds[:, 0], strict=True):
        predicted = InstanceData(scores=scores, bboxes=bbox_cxcywh_to_xyxy(boxes) * size)
        numbers = assigner.assign(predicted, objects, sample.metainfo).gt_inds  # 0: none, else from 1
        query = numbers.nonzero()[:, 0]
        pairs.append((query, numbers[query] - 1))
    return pairs
