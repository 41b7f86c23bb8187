"""Counts are pycocotools', labels are mmdet's."""

import json

import numpy as np
import pytest
from mmcv.transforms import Resize
from mmengine.config import Config
from pycocotools.coco import COCO

from projects.dataset_report.report import CheckedSource
from projects.dataset_report.sources import find_sources, input_resize
from projects.deformable_detr.registry import DATASETS
from projects.reliable_runner.data.categories import labels_by_category
from projects.reliable_runner.data.statistics import Statistics
from projects.reliable_runner.errors import InputError

CLASSES = ("circle", "square", "triangle")


@pytest.fixture
def crowded(data, change) -> dict:
    """The drawings with a crowd, an image without objects, a large area, and category ids out of order."""

    def edit(coco):
        coco["annotations"][0]["iscrowd"] = 1
        coco["annotations"][1]["area"] = 100 * 100
        coco["images"].append(dict(coco["images"][0], id=99, file_name="none.png"))
        for entries, key in (coco["categories"], "id"), (coco["annotations"], "category_id"):
            for entry in entries:
                entry[key] = 10 - 3 * entry[key]

    return change(edit)


def test_counts_are_pycocotools(data, crowded):
    coco = COCO(data / "annotations" / "train.json")
    statistics = Statistics.of(crowded, CLASSES)
    for label, name in enumerate(CLASSES):
        ids = coco.getCatIds([name])
        anns = coco.getAnnIds(catIds=ids, iscrowd=False)
        assert statistics.objects_per_class[label] == len(anns)
        images = {ann["image_id"] for ann in coco.loadAnns(anns)}
        assert statistics.images_per_class[label] == len(images)
    total = len(coco.getAnnIds(iscrowd=False))
    for name, area in dict(small=(-1, 32**2), medium=(32**2 - 1, 96**2), large=(96**2 - 1, 1e9)).items():
        count = len(coco.getAnnIds(areaRng=area, iscrowd=False))
        assert statistics.coco_shares[name] == pytest.approx(count / total)
    assert statistics.num_crowds == 1
    per_image = [len(coco.getAnnIds(image["id"], iscrowd=False)) for image in crowded["images"]]
    assert statistics.objects_per_image.tolist() == per_image
    numbers = CheckedSource(None, crowded["categories"], statistics).numbers()
    assert numbers["num_images_without_objects"] == per_image.count(0) >= 1
    json.dumps(numbers)
    assert f"{total} objects and 1 crowds" in statistics.summary()[0]


def test_labels_are_mmdets(data, crowded):
    dataset = DATASETS.build(
        dict(
            type="CocoDataset",
            data_root=str(data),
            ann_file="annotations/train.json",
            data_prefix=dict(img="train/"),
            metainfo=dict(classes=("circle", "triangle")),
        )
    )
    assert labels_by_category(crowded["categories"], ("circle", "triangle")) == dataset.cat2label


@pytest.mark.parametrize("keep_ratio", [True, False])
@pytest.mark.parametrize("scale", [(1333, 800), (320, 240)])
def test_sides_at_input_are_those_after_the_resize(keep_ratio, scale):
    step = dict(type="Resize", scale=scale, keep_ratio=keep_ratio)
    cfg = Config(dict(test_dataloader=dict(dataset=dict(type="CocoDataset", pipeline=[step]))))
    coco = dict(
        images=[dict(id=1, file_name="", width=640, height=427)],
        annotations=[dict(id=1, image_id=1, category_id=1, bbox=[10.0, 20.0, 30.0, 40.0], area=1200)],
        categories=[dict(id=1, name="circle")],
    )
    statistics = Statistics.of(coco, ["circle"])
    resized = Resize(scale=scale, keep_ratio=keep_ratio)(
        dict(img=np.zeros((427, 640, 3), np.uint8), gt_bboxes=np.array([[10.0, 20, 40, 60]]))
    )
    x1, y1, x2, y2 = resized["gt_bboxes"][0]
    side = np.sqrt((x2 - x1) * (y2 - y1))
    assert statistics.sides_at_input(input_resize(cfg)) == pytest.approx([side], rel=2e-3)


def test_data_sets_in_wrappers_are_found(data, check, tiny_config):
    leaf = dict(tiny_config.train_dataloader.dataset, data_root=str(data))
    both = dict(type="ConcatDataset", datasets=[leaf, dict(type="RepeatDataset", times=2, dataset=leaf)])
    report = check(train_dataloader__dataset=dict(both, _delete_=True))
    assert list(report.checked) == ["train 1", "train 2", "val"]


def test_splits(check):
    assert list(check(["test"]).checked) == ["test"]
    with pytest.raises(InputError, match="it has no train_dataloader"):
        find_sources(Config(dict(val_dataloader=dict(dataset=dict()))), ["train"])
    with pytest.raises(InputError, match="only CocoDataset can be checked"):
        check(train_dataloader__dataset=dict(type="VOCDataset", _delete_=True))
