"""True boxes of a data set, and which query answers for which."""

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate

from projects.attention_viewer.detections import predict
from projects.attention_viewer.frame import META_KEYS, ImageFrame
from projects.attention_viewer.truth import TrueBoxes, matched_queries, read_truth
from projects.attention_viewer.view import View
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import prepare


@pytest.mark.parametrize("direction", [None, "diagonal"])
@pytest.mark.parametrize("variant", ["base", "detr"])
def test_a_query_that_is_right_is_matched(variant, direction, build, picture):
    """Queries 7, 2 and 4 predict what is true, each layer alike; no class is a hexagon."""
    detector = build(variant, direction)
    detector.test_pipeline[-1].meta_keys = META_KEYS
    (sample,), cls_scores, bbox_preds = predict(detector, pseudo_collate([prepare(detector, picture)]))
    right = torch.tensor([7, 2, 4])
    bbox_preds[:, 0, right] = torch.tensor([[0.2, 0.3, 0.1, 0.2], [0.7, 0.6, 0.4, 0.3], [0.5, 0.2, 0.2, 0.2]])
    cls_scores[:, 0] = -8
    cls_scores[:, 0, right, torch.tensor([1, 0, 2])] = 8
    boxes = ImageFrame.of(sample).boxes_to_pixels(bbox_preds[0, 0, right])
    truth = TrueBoxes(torch.cat((boxes[:1], boxes)), ["hexagon", "square", "circle", "triangle"])
    matched = matched_queries(detector, sample, cls_scores, bbox_preds, truth)
    assert matched.tolist() == [[-1, 7, 2, 4]] * len(cls_scores)


def test_without_objects_or_an_assigner_nothing_is_matched(build, picture):
    detector = build("base")
    none = TrueBoxes(torch.zeros(0, 4), [])
    assert View.of(detector, picture, none).matches.shape == (1, 0)
    del detector.bbox_head.assigner
    one = TrueBoxes(torch.tensor([[0.0, 0, 20, 20]]), ["circle"])
    assert View.of(detector, picture, one).matches.tolist() == [[-1]]
    assert View.of(detector, picture).matches is None


@pytest.mark.usefixtures("small_run")
def test_truth_is_the_data_sets(heir, shapes_root, picture):
    cfg = Config.fromfile(heir(""))
    images = [*sorted((shapes_root / "val").iterdir())[2:0:-1]] * 2
    truths = read_truth(cfg, "test", images)
    annotations = Config.fromfile(shapes_root / "annotations" / "val.json")
    names = {category["id"]: category["name"] for category in annotations.categories}
    for path, truth in zip(images, truths, strict=True):
        (number,) = [image["id"] for image in annotations.images if image["file_name"] == path.name]
        objects = [entry for entry in annotations.annotations if entry["image_id"] == number]
        assert truth.names == [names[entry["category_id"]] for entry in objects] != []
        expected = [(x, y, x + w, y + h) for x, y, w, h in (entry["bbox"] for entry in objects)]
        torch.testing.assert_close(truth.boxes, torch.tensor(expected, dtype=torch.float32))

    with pytest.raises(InputError, match="--split train: .* has no image .*picture.png"):
        read_truth(cfg, "train", [picture])
    cfg.pop("val_dataloader")
    with pytest.raises(InputError, match="no val_dataloader"):
        read_truth(cfg, "val", images)
