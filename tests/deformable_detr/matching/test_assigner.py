"""Costs against mmdet's, the matching against every possible one."""

from itertools import permutations

import pytest
import torch
from mmdet.models.task_modules.assigners import match_cost
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from projects.deformable_detr.matching.assigner import HungarianAssigner, Predictions
from projects.deformable_detr.matching.costs import BBoxL1Cost, FocalLossCost, IoUCost
from projects.deformable_detr.matching.targets import Targets

COSTS = [
    dict(type="FocalLossCost", weight=2.0),
    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
    dict(type="IoUCost", iou_mode="giou", weight=2.0),
]
SIZE = (40, 60)


def make_targets(num_objects: list[int]) -> Targets:
    samples = []
    for i, n in enumerate(num_objects):
        corners = torch.rand(n, 2, 2).sort(1).values.flatten(1) * torch.tensor([60, 40, 60, 40])
        objects = InstanceData(bboxes=corners, labels=torch.randint(4, (n,)))
        meta = dict(img_shape=SIZE, img_path=f"image{i}.jpg")
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return Targets.from_samples(samples)


def make_predictions(num_objects: list[int], num_queries: int = 5) -> Predictions:
    shape = (len(num_objects), num_queries, 4)
    return Predictions(torch.randn(shape), torch.rand(shape) * 0.5 + 0.2, make_targets(num_objects))


@pytest.fixture(autouse=True)
def scope():
    init_default_scope("projects.deformable_detr")
    torch.manual_seed(0)


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


def test_costs_are_float32_under_autocast():
    scores, boxes, targets = make_predictions([3])
    with torch.autocast("cpu", torch.bfloat16):
        cost = HungarianAssigner(COSTS).cost(scores.bfloat16(), boxes.bfloat16(), targets)
    assert cost.dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_box_that_is_not_finite_is_matched_first(bad):
    """So that the loss, which sees matched boxes alone, is not finite either."""
    layer = make_predictions([1, 2])
    layer.bbox_preds[1, 3] = bad
    (matches,) = HungarianAssigner(COSTS).assign([layer])
    assert 3 in matches.query[matches.image == 1]
