"""Slices, with a detector that finds the bright pixels of what it is shown, one box a pixel."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData

from projects.reliable_runner import inference, slicing

PLACES = [(5, 5), (50, 70), (99, 119), (35, 36)]  # y, x


@pytest.fixture
def shown(monkeypatch) -> list[tuple[int, int]]:
    """The sizes of what the detector was shown."""
    sizes = []

    def prepare(_, image, path=None):
        return dict(img=image, img_path=path)

    def detect_batch(_, prepared, first=0):
        samples = []
        for item in prepared:
            sizes.append(item["img"].shape[:2])
            y, x = np.nonzero(item["img"][..., 0])
            corners = torch.as_tensor(np.stack((x, y, x + 1, y + 1), 1), dtype=torch.float32)
            found = InstanceData(bboxes=corners, scores=torch.full((len(y),), 1 / max(item["img"].shape)))
            found.labels = torch.zeros(len(y), dtype=torch.int64)
            samples.append(DetDataSample(pred_instances=found))
        return samples

    monkeypatch.setattr(slicing, "prepare", prepare)
    for module in (inference, slicing):
        monkeypatch.setattr(module, "detect_batch", detect_batch)
    return sizes


def picture() -> np.ndarray:
    image = np.zeros((100, 120, 3), np.uint8)
    for place in PLACES:
        image[place] = 255
    return image


@pytest.mark.parametrize("batch_size", [1, 4])
def test_an_object_of_several_slices_is_found_once_where_it_is(shown, batch_size):
    image = picture()
    sample = slicing.detect_sliced(None, image, dict(img=image, img_path="a"), 40, batch_size=batch_size)
    found = {(int(y), int(x)) for x, y, *_ in sample.pred_instances.bboxes.tolist()}
    assert found == set(PLACES)
    assert len(sample.pred_instances) == len(PLACES)
    assert sample.pred_instances.scores.tolist() == [pytest.approx(1 / 40)] * len(PLACES)  # the best of each
    assert shown[0] == (100, 120)
    assert set(shown[1:]) == {(40, 40)}


def test_a_small_image_is_shown_once(shown):
    image = picture()
    assert len(slicing.detect_sliced(None, image, dict(img=image), 640).pred_instances) == len(PLACES)
    assert shown == [(100, 120)]
