"""Costs against mmdet's, the matching against every possible one."""

from itertools import permutations

import pytest
import torch
from mmdet.models.task_modules.assigners import match_cost
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.structures import InstanceData

from projects.deformable_detr.matching.assigner import HungarianAssigner, Predictions
from projects.deformable_detr.matching.costs import BBoxL1Cost, FocalLossCost, IoUCost
from projects.deformable_detr.matching.targets import Targets

from ..conftest import batch

COSTS = [
    dict(type="FocalLossCost", weight=2.0),
    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
    dict(type="IoUCost", iou_mode="giou", weight=2.0),
]
SIZE = (40, 60)


def make_predictions(num_objects: list[int], num_queries: int = 5) -> Predictions:
    shape = (len(num_objects), num_queries, 4)
    _, samples = batch(num_objects, [SIZE] * len(num_objects), num_classes=4)
    return Predictions(torch.randn(shape), torch.rand(shape) * 0.5 + 0.2, Targets.from_samples(samples))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (FocalLossCost(2.0), match_cost.FocalLossCost(weight=2.0)),
        (BBoxL1Cost("xywh", 5.0), match_cost.BBoxL1Cost("xywh", 5.0)),
        (BBoxL1Cost("xyxy", 5.0), match_cost.BBoxL1Cost("xyxy", 5.0)),
        (IoUCost("giou", 2.0), match_cost.IoUCost("giou", 2.0)),
        (IoUCost("iou"), match_cost.IoUCost("iou")),
    ],
)
def test_costs_are_mmdets(ours, theirs):
    scores, boxes, targets = make_predictions([3, 1])
    costs = ours(scores, boxes, targets)
    factor = torch.tensor([60, 40, 60, 40])
    for image, n in enumerate(targets.num_objects):
        corners = bbox_cxcywh_to_xyxy(boxes[image]) * factor
        true = InstanceData(
            labels=targets.labels[image, :n], bboxes=bbox_cxcywh_to_xyxy(targets.boxes[image, :n]) * factor
        )
        expected = theirs(InstanceData(scores=scores[image], bboxes=corners), true, dict(img_shape=SIZE))
        torch.testing.assert_close(costs[image, :, :n], expected, rtol=0, atol=1e-5)


def test_matching_has_the_least_cost():
    assigner = HungarianAssigner(COSTS)
    layers = [make_predictions([3, 0, 2]), make_predictions([1, 4, 0])]
    for layer, matches in zip(layers, assigner.assign(layers), strict=True):
        cost = assigner.cost(*layer)
        for image, n in enumerate(layer.targets.num_objects):
            here = matches.image == image
            assert sorted(matches.object[here].tolist()) == list(range(n))
            total = cost[image, matches.query[here], matches.object[here]].sum()
            best = min(cost[image, list(q), list(range(n))].sum() for q in permutations(range(5), n))
            torch.testing.assert_close(total, best)


def test_more_objects_than_queries_leave_objects_unmatched():
    (matches,) = HungarianAssigner(COSTS).assign([make_predictions([7])])
    assert sorted(matches.query.tolist()) == list(range(5))
    assert len(set(matches.object.tolist())) == 5


def test_all_costs_reach_the_cpu_as_one_tensor(monkeypatch):
    layers = [make_predictions([3, 2]), make_predictions([3, 2], num_queries=30)]
    moved = []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: moved.append(self) or to_cpu(self))
    HungarianAssigner(COSTS).assign(layers)
    assert len(moved) == 1
