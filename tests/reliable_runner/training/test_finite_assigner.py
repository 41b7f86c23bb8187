import math

import pytest
import torch
from mmdet.models.task_modules import HungarianAssigner
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from projects.reliable_runner.training.finite_assigner import HungarianAssigner as FiniteAssigner

COSTS = [
    dict(type="ClassificationCost", weight=1.0),
    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
    dict(type="IoUCost", iou_mode="giou", weight=2.0),
]
META = dict(img_path="cat.jpg", img_shape=(60, 80))


@pytest.fixture
def assigner():
    with DefaultScope.overwrite_default_scope("mmdet"):
        return FiniteAssigner(COSTS)


@pytest.fixture
def instances() -> tuple[InstanceData, InstanceData]:
    """Seven predictions and three objects, in pixels."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(10, 2, 2, generator=generator).sort(1).values.flatten(1)
    boxes = corners * torch.tensor([80.0, 60.0, 80.0, 60.0])
    scores = torch.randn(7, 4, generator=generator)
    return (
        InstanceData(bboxes=boxes[:7], scores=scores),
        InstanceData(bboxes=boxes[7:], labels=torch.tensor([2, 0, 1])),
    )


def test_matches_as_mmdets(assigner, instances):
    with DefaultScope.overwrite_default_scope("mmdet"):
        theirs = HungarianAssigner(COSTS)
    found, expected = (one.assign(*instances, META) for one in (assigner, theirs))
    assert torch.equal(found.gt_inds, expected.gt_inds) and found.gt_inds.count_nonzero() == 3
    assert torch.equal(found.labels, expected.labels)


@pytest.mark.parametrize("key", ["bboxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_non_finite_prediction_is_matched(assigner, instances, key, value):
    """So that the loss is not finite either."""
    instances[0][key][4, 1] = value
    matched = assigner.assign(*instances, META)
    assert matched.gt_inds[4] == 1 and matched.labels[4] == 2
    assert matched.gt_inds.sort().values.tolist() == [0] * 4 + [1, 2, 3]
    assert assigner.assign(instances[0], instances[1][:0], META).gt_inds.tolist() == [0] * 7
