"""Counts are pycocotools', and corners are told from sizes."""

import numpy as np
import pytest
from pycocotools.coco import COCO

from projects.reliable_runner.data.statistics import Statistics, check_corners

CLASSES = ("circle", "square", "triangle")


@pytest.fixture(scope="module")
def crowded(shapes_root) -> COCO:
    """The drawings with a crowd, an image without objects, a large area, and category ids out of order."""
    coco = COCO(shapes_root / "annotations" / "train.json")
    content = coco.dataset
    content["annotations"][0]["iscrowd"] = 1
    content["annotations"][1]["area"] = 100 * 100
    content["images"].append(dict(content["images"][0], id=99, file_name="none.png"))
    for entries, key in (content["categories"], "id"), (content["annotations"], "category_id"):
        for entry in entries:
            entry[key] = 10 - 3 * entry[key]
    coco.createIndex()
    return coco


def test_counts_are_pycocotools(crowded):
    statistics = Statistics(crowded.dataset, CLASSES)
    for label, name in enumerate(CLASSES):
        ids = crowded.getCatIds([name])
        anns = crowded.getAnnIds(catIds=ids, iscrowd=False)
        assert statistics.objects_per_class[label] == len(anns)
        images = {ann["image_id"] for ann in crowded.loadAnns(anns)}
        assert statistics.images_per_class[label] == len(images)
    total = len(crowded.getAnnIds(iscrowd=False))
    for name, area in dict(small=(-1, 32**2), medium=(32**2 - 1, 96**2), large=(96**2 - 1, 1e9)).items():
        count = len(crowded.getAnnIds(areaRng=area, iscrowd=False))
        assert statistics.coco_shares[name] == pytest.approx(count / total)
    assert (statistics.num_objects, statistics.num_crowds) == (total, 1)
    per_image = [len(crowded.getAnnIds(i["id"], iscrowd=False)) for i in crowded.dataset["images"]]
    assert statistics.objects_per_image.tolist() == per_image
    assert f"({per_image.count(0)} without objects), {total} objects" in statistics.summary()[0]


def test_corners_are_told_from_sizes():
    """Random boxes in random images, both ways of writing them, and a tenth mixed in."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        sizes = rng.integers(64, 1000, (200, 2)).astype(float)
        first, second = np.sort(rng.uniform(0, 1, (2, 200, 2)), axis=0) * sizes
        as_sizes, as_corners = np.hstack((first, second - first)), np.hstack((first, second))
        assert not check_corners(as_sizes, sizes)
        assert not check_corners(as_sizes[:0], sizes[:0])
        assert check_corners(as_corners, sizes)[0].is_error
        mixed = np.concatenate((as_corners[:20], as_sizes[20:]))
        assert [finding.is_error for finding in check_corners(mixed, sizes)] in ([False], [])
