import math
import re

import pytest
import torch

from projects.deformable_detr.registry import METRICS
from projects.reliable_runner.errors import InputError, NonFiniteError
from projects.reliable_runner.metric.coco_metric import CocoMetric


def test_shadows_mmdets_name_in_our_scope():
    assert METRICS.get("CocoMetric") is CocoMetric


def test_missing_file_lists_its_neighbours(shapes_root):
    with pytest.raises(InputError, match=r"tset\.json does not exist; .*train\.json, val\.json"):
        CocoMetric(str(shapes_root / "annotations" / "tset.json"))


@pytest.mark.parametrize("key", ["bboxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_prediction_that_is_not_finite_has_no_score(shapes_root, key, value):
    metric = CocoMetric(str(shapes_root / "annotations" / "val.json"))
    pred = dict(bboxes=torch.rand(5, 4), scores=torch.rand(5), labels=torch.zeros(5, dtype=int))
    sample = dict(img_id=1, img_path="val/1.png", ori_shape=(64, 64), pred_instances=pred)
    metric.process({}, [sample])
    pred[key][2] = value
    with pytest.raises(NonFiniteError, match=re.escape("for image val/1.png: ")):
        metric.process({}, [sample])
