"""Costs against mmdet's, the matching against every possible one, and errors that name the place."""

from itertools import permutations
from unittest import mock

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
from projects.reliable_runner.errors import NonFiniteError

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


def make_predictions(num_objects: list[int], num_layers: int = 2, num_queries: int = 5) -> Predictions:
    shape = (num_layers, len(num_objects), num_queries)
    names = [f"decoder layer {i}" for i in range(num_layers)]
    boxes = torch.rand(*shape, 4) * 0.5 + 0.2
    return Predictions(names, torch.randn(*shape, 4), boxes, make_targets(num_objects))


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
    _, scores, boxes, targets = make_predictions([3, 1])
    costs = ours(scores, boxes, targets)
    factor = torch.tensor([60, 40, 60, 40])
    for layer in range(2):
        for image, n in enumerate(targets.num_objects):
            predicted = InstanceData(
                scores=scores[layer, image],
                bboxes=bbox_cxcywh_to_xyxy(boxes[layer, image]) * factor,
            )
            true = InstanceData(
                labels=targets.labels[image, :n],
                bboxes=bbox_cxcywh_to_xyxy(targets.boxes[image, :n]) * factor,
            )
            expected = theirs(predicted, true, dict(img_shape=SIZE))
            torch.testing.assert_close(costs[layer, image, :, :n], expected, rtol=0, atol=1e-5)


def test_matching_has_the_least_cost():
    assigner = HungarianAssigner(COSTS)
    group = make_predictions([3, 0, 2])
    (matches,) = assigner.assign([group])
    cost = assigner.cost(*group[1:])
    for layer in range(2):
        for image, n in enumerate([3, 0, 2]):
            here = (matches.layer == layer) & (matches.image == image)
            assert sorted(matches.object[here].tolist()) == list(range(n))
            total = cost[layer, image, matches.query[here], matches.object[here]].sum()
            best = min(
                cost[layer, image, list(queries), list(range(n))].sum()
                for queries in permutations(range(5), n)
            )
            torch.testing.assert_close(total, best)


def test_more_objects_than_queries_leave_objects_unmatched():
    (matches,) = HungarianAssigner(COSTS).assign([make_predictions([7], num_layers=1)])
    assert sorted(matches.query.tolist()) == list(range(5))
    assert len(set(matches.object.tolist())) == 5


def test_all_costs_reach_the_cpu_as_one_tensor(monkeypatch):
    groups = [make_predictions([3, 2]), make_predictions([3, 2], num_layers=1, num_queries=30)]
    moved = []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda self: moved.append(self) or to_cpu(self))
    HungarianAssigner(COSTS).assign(groups)
    assert len(moved) == 1


def test_costs_are_float32_under_autocast():
    _, scores, boxes, targets = make_predictions([3])
    with torch.autocast("cpu", torch.bfloat16):
        cost = HungarianAssigner(COSTS).cost(scores.bfloat16(), boxes.bfloat16(), targets)
    assert cost.dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("num_objects", [[1, 2], [0, 0]])
def test_non_finite_prediction_names_iteration_image_and_layer(bad, num_objects):
    group = make_predictions(num_objects)
    group.cls_scores[1, 1, 2, 3] = bad
    hub = "projects.reliable_runner.run_state.MessageHub"
    with mock.patch(hub) as message_hub:
        message_hub.get_current_instance().get_info.return_value = 40
        with pytest.raises(NonFiniteError, match=r"iteration 41, image image1\.jpg, decoder layer 1"):
            HungarianAssigner(COSTS).assign([group])
