"""Data sets are found in every config of COCO data, and the test pipeline's resize is known."""

import numpy as np
import pytest
from mmcv.transforms import Resize
from mmengine.config import Config
from mmengine.registry import DefaultScope

from projects.dataset_report.check import check_datasets
from projects.dataset_report.sources import find_sources, input_resize
from projects.reliable_runner.data.statistics import Statistics
from projects.reliable_runner.errors import InputError


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("scale", [(320, 240), 300])
def test_sides_at_input_are_those_after_the_resize(keep_ratio, scale):
    step = dict(type="Resize", scale=scale, keep_ratio=keep_ratio)
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type="CocoDataset", pipeline=[step]))))
    coco = dict(
        images=[dict(id=1, file_name="", width=640, height=427)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[10.0, 20.0, 30.0, 40.0], area=1200)],
        categories=[dict(id=1, name="circle")],
    )
    resized = Resize(scale=scale, keep_ratio=keep_ratio)(
        dict(img=np.zeros((427, 640, 3), np.uint8), gt_bboxes=np.array([[10.0, 20, 40, 60]]))
    )
    x1, y1, x2, y2 = resized["gt_bboxes"][0]
    side = np.sqrt((x2 - x1) * (y2 - y1))
    assert Statistics(coco, ["circle"]).sides_at_input(input_resize(cfg)) == pytest.approx([side], rel=2e-3)


def test_data_sets_in_wrappers_are_found(check, leaf):
    both = dict(type="ConcatDataset", datasets=[leaf, dict(type="RepeatDataset", times=2, dataset=leaf)])
    report = check(train_dataloader__dataset=dict(both, _delete_=True))
    assert list(report.checked) == ["train 1", "train 2", "val"]


def test_splits(check):
    assert list(check(["test"]).checked) == ["test"]
    with pytest.raises(InputError, match="it has no train_dataloader"):
        find_sources(Config(dict(val_dataloader=dict(dataset=dict()))), ["train"])
    with pytest.raises(InputError, match="train is a VOCDataset"):
        check(train_dataloader__dataset=dict(type="VOCDataset", _delete_=True))


def test_a_config_of_mmdet_without_a_scope(leaf):
    """The scope of an earlier run does not stay."""
    cfg = Config(dict(train_dataloader=dict(dataset=leaf)))
    report = check_datasets(cfg)
    assert report.verdict == "can train" and report.checked["train"].statistics.num_objects
    assert DefaultScope.get_current_instance().scope_name == "mmdet"
