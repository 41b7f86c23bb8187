import json

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData
from pycocotools.coco import COCO

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.metric.coco_results import CocoResults, ids_of


def sample(*boxes: list[float]) -> DetDataSample:
    """Boxes x1, y1, x2, y2 in an image of 60 x 40."""
    found = InstanceData(
        bboxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        scores=torch.full((len(boxes),), 0.5),
    )
    return DetDataSample(metainfo=dict(ori_shape=(40, 60)), pred_instances=found)


def test_pycocotools_reads_what_is_written(tmp_path):
    results = CocoResults(["a", "b"], [7, 9])
    results.add("1.jpg", sample([1.0, 2, 11, 22], [0.0, 0, 5, 6]))
    assert results.add("clip.mp4", sample(), frame_id=3) == []
    results.save(tmp_path / "new" / "predictions.json")

    coco = COCO(tmp_path / "new" / "predictions.json")
    assert coco.loadImgs([1, 2]) == [
        dict(id=1, file_name="1.jpg", width=60, height=40),
        dict(id=2, file_name="clip.mp4", width=60, height=40, frame_id=3),
    ]
    assert coco.loadCats([7, 9]) == [dict(id=7, name="a"), dict(id=9, name="b")]
    first, second = coco.loadRes(coco.dataset["annotations"]).loadAnns([1, 2])
    assert (first["image_id"], first["category_id"], first["score"]) == (1, 7, 0.5)
    assert (first["bbox"], first["area"]) == ([1, 2, 10, 20], 200)
    assert (second["category_id"], second["bbox"]) == (9, [0, 0, 5, 6])
    assert results.describe(second) == "  b 0.500  0.0 0.0 5.0 6.0"


def test_ids_of_an_annotation_file(tmp_path):
    path = tmp_path / "ann.json"
    images = [("train/1.jpg", 30), ("1.jpg", 10), ("2.jpg", 20)]
    contents = dict(
        images=[dict(id=i, file_name=name, width=6, height=4) for name, i in images],
        categories=[dict(id=5, name="b"), dict(id=3, name="a"), dict(id=4, name="c")],
    )
    path.write_text(json.dumps(contents))
    paths = [tmp_path / name for name in ("2.jpg", "train/1.jpg", "val/1.jpg")]
    image_ids, category_ids = ids_of(path, paths, ["a", "b"])
    assert image_ids == [20, 30, 10] and category_ids == [3, 5]
    results = CocoResults(["a", "b"], category_ids, dict(zip("xyz", image_ids, strict=True)))
    assert results.add("y", sample([0.0, 0, 1, 1]))[0]["image_id"] == 30

    with pytest.raises(InputError, match="ann.json does not hold .*3.jpg, class 'd'"):
        ids_of(path, [tmp_path / "3.jpg"], ["a", "d"])
