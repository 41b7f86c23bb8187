"""Sizes and pixels of the official code; mmcv's sizes differ in half of all images."""

import numpy as np
import pytest
from mmcv.image import rescale_size
from PIL import Image

from projects.reliable_runner.data.detr_resize import DETRResize

SIZES = np.random.default_rng(0).integers(200, 1000, (100, 2)).tolist()


def official_size(w: int, h: int, size: int = 800, max_size: int = 1333) -> tuple[int, int]:
    """As in torchvision's references, from which DETR has it; (w, h)."""
    small, large = float(min(w, h)), float(max(w, h))
    if large / small * size > max_size:
        size = int(round(max_size * small / large))
    if w < h:
        return size, int(size * h / w)
    return int(size * w / h), size


@pytest.mark.parametrize(("w", "h"), [(640, 480), (480, 640), (427, 640), (1000, 211), (500, 500)])
def test_pixels_are_pillows(w, h):
    image = np.random.default_rng(1).integers(0, 256, (h, w, 3), np.uint8)
    boxes = np.array([[10.0, 20, 100, 200]], np.float32)
    results = DETRResize((1333, 800))(dict(img=image, gt_bboxes=boxes.copy(), img_shape=(h, w)))
    size = official_size(w, h)
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    assert np.array_equal(results["img"], expected)
    assert results["img_shape"] == size[::-1]
    np.testing.assert_allclose(results["scale_factor"], (size[0] / w, size[1] / h))
    np.testing.assert_allclose(results["gt_bboxes"], boxes * np.tile(results["scale_factor"], 2), rtol=1e-6)


def test_every_size_is_the_official_one():
    differ = 0
    for w, h in SIZES:
        results = DETRResize((1333, 800))(dict(img=np.zeros((h, w, 3), np.uint8)))
        assert results["img_shape"] == official_size(w, h)[::-1]
        differ += rescale_size((w, h), (1333, 800)) != official_size(w, h)
    assert 0.3 < differ / len(SIZES) < 0.7


def test_up_to_2_to_1_sides_differ_by_a_pixel():
    """What docs/checkpoints.md says of mmcv's sizes."""
    most, elongated = 0, 0
    for w, h in np.random.default_rng(0).integers(200, 3000, (2000, 2)).tolist():
        pairs = zip(rescale_size((w, h), (1333, 800)), official_size(w, h), strict=True)
        difference = max(abs(theirs - ours) for theirs, ours in pairs)
        if max(w, h) <= 2 * min(w, h):
            most = max(most, difference)
        else:
            elongated = max(elongated, difference)
    assert most == 1 < elongated
