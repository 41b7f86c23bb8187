import math

import pytest
import torch
from mmdet.models.task_modules import HungarianAssigner
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData

from projects.deformable_detr.registry import TASK_UTILS
from projects.reliable_runner.errors import NonFiniteError, nonfinite_errors_noted

COSTS = [
    dict(type="ClassificationCost", weight=1.0),
    dict(type="BBoxL1Cost", weight=5.0, box_format="xywh"),
    dict(type="IoUCost", iou_mode="giou", weight=2.0),
]
META = dict(img_path="cat.jpg", img_shape=(60, 80))


@pytest.fixture
def assigner():
    return TASK_UTILS.build(dict(type="HungarianAssigner", match_costs=COSTS))


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
def test_what_is_not_finite_is_told_with_its_image(assigner, instances, key, value):
    instances[0][key][4, 1] = value
    with pytest.raises(NonFiniteError, match="non-finite predictions at iteration 1, image cat.jpg"):
        assigner.assign(*instances, META)
    errors = []
    with nonfinite_errors_noted(errors):
        matched = assigner.assign(*instances, META)
    assert "cat.jpg" in str(errors[0]) and matched.gt_inds.count_nonzero() == 3
