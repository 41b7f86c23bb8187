import math
import re

import pytest
import torch
from mmdet.registry import METRICS

from projects.reliable_runner.errors import NonFiniteError
from projects.reliable_runner.metric.coco_metric import CocoMetric


def test_replaces_mmdets():
    assert METRICS.get("CocoMetric") is CocoMetric


@pytest.mark.parametrize("key", ["bboxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_or_infinite_prediction_has_no_score(shapes_root, key, value):
    metric = CocoMetric(str(shapes_root / "annotations" / "val.json"))
    pred = dict(bboxes=torch.rand(5, 4), scores=torch.rand(5), labels=torch.zeros(5, dtype=int))
    sample = dict(img_id=1, img_path="val/1.png", ori_shape=(64, 64), pred_instances=pred)
    metric.process({}, [sample])
    pred[key][2] = value
    with pytest.raises(NonFiniteError, match=re.escape("for image val/1.png: ")):
        metric.process({}, [sample])
