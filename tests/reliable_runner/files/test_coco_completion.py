"""What label tools leave out is filled in, in training, evaluation and audit alike; the file stays."""

import copy
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_completion import complete, name_categories
from projects.reliable_runner.files.coco_file import CocoFile

L_SHAPE = [[2, 2, 12, 2, 12, 4, 4, 4, 4, 10, 2, 10]]  # 32 square pixels
SQUARES = [[0, 0, 2, 0, 2, 2, 0, 2], [10, 10, 13, 10, 13, 13, 10, 13]]


def annotation(**fields) -> dict:
    return {**dict(id=1, image_id=1, category_id=1, bbox=[1, 2, 5, 4], area=20.0, iscrowd=0), **fields}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (dict(bbox=[1, 2, 5, 4]), dict(area=20.0, iscrowd=0)),
        (dict(bbox=[2, 2, 10, 8], segmentation=L_SHAPE), dict(area=32.0)),
        (dict(segmentation=L_SHAPE), dict(bbox=[2, 2, 10, 8], area=32.0)),
        (dict(segmentation=SQUARES), dict(bbox=[0, 0, 13, 13], area=13.0)),
        (dict(bbox=[1, 2, 5, 4], area=None, iscrowd=None), dict(area=20.0, iscrowd=0)),
        (dict(bbox=[1, 2, 5, 4], iscrowd=True), dict(area=20.0, iscrowd=1)),
        (dict(segmentation=L_SHAPE, area=7.0), dict(bbox=[2, 2, 10, 8], area=7.0)),
        (dict(bbox=[1, 2, 5, 4], segmentation=[[1, "a"]]), dict(area=20.0)),
    ],
)
def test_box_and_area(given, expected):
    content = dict(images=[], annotations=[dict(id=1, image_id=1, category_id=1, **given)], categories=[])
    complete(content)
    (found,) = content["annotations"]
    assert {key: found[key] for key in expected} == expected
    assert complete(content) == []


def test_masks_give_box_and_area():
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 3:10] = 1
    counts = rle.encode(np.asfortranarray(mask))
    runs = dict(size=[20, 30], counts=[3 * 20 + 5, *[4, 16] * 6, 4, 20 * 20 + 11])
    for segmentation in (dict(counts, counts=counts["counts"].decode()), runs):
        content = dict(images=[], annotations=[dict(segmentation=segmentation)])
        complete(content)
        assert content["annotations"][0]["bbox"] == [3, 5, 7, 4] and content["annotations"][0]["area"] == 28


def test_ids_only_where_all_are_missing():
    boxes = [annotation(), annotation()]
    for box in boxes:
        del box["id"]
    content = dict(annotations=copy.deepcopy(boxes))
    assert complete(content) == ["id of 2 annotations (numbered in their order)"]
    assert [box["id"] for box in content["annotations"]] == [1, 2]
    content = dict(annotations=[dict(boxes[0], id=7), boxes[1]])
    assert complete(content) == [] and "id" not in boxes[1]


def test_sizes_are_those_of_the_files(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "upright.png")
    Image.new("RGB", (30, 20)).save(tmp_path / "turned.jpg", exif=exif)
    np.save(tmp_path / "bands.npy", np.zeros((20, 40, 6)))
    names = "upright.png", "turned.jpg", "bands.npy", "no"
    content = dict(images=[dict(id=i, file_name=name) for i, name in enumerate(names)])
    assert complete(content, str(tmp_path)) == ["width and height of 3 images (from the image files)"]
    upright, turned, bands, absent = content["images"]
    assert (bands["width"], bands["height"]) == (40, 20)
    assert (upright["width"], upright["height"]) == (30, 20)
    assert (turned["width"], turned["height"]) == (20, 30)
    assert "width" not in absent


@pytest.mark.parametrize(
    ("used", "ids"), [({1, 2}, (1, 2)), ({0, 1}, (0, 1)), ({2}, (1, 2)), (set(), (1, 2))]
)
def test_categories_are_numbered_as_the_annotations_do(used, ids):
    content = dict(annotations=[annotation(category_id=i) for i in used], categories=[])
    name_categories(content, ("cat", "dog"))
    assert content["categories"] == [
        dict(id=i, name=name) for i, name in zip(ids, ("cat", "dog"), strict=True)
    ]


def test_other_numbers_are_refused():
    with pytest.raises(InputError, match=r"\[3\].*2 classes"):
        name_categories(dict(annotations=[annotation(category_id=3)], categories=[]), ("cat", "dog"))


def test_the_file_stays_and_is_told_of_once(tmp_path, warnings):
    box = annotation()
    del box["area"], box["iscrowd"]
    path = tmp_path / "a.json"
    text = json.dumps(dict(images=[dict(id=1, file_name="a.png")], annotations=[box], categories=[]))
    path.write_text(text)
    for _ in range(2):
        file = CocoFile(str(path), classes=("cat",))
    assert file.anns[1]["area"] == 20 and file.getCatIds(["cat"]) == [1]
    assert path.read_text() == text
    assert [line.partition(": ")[2] for line in warnings] == [
        "filled in: area of 1 annotations (that of the segmentation, else of the box)",
        "filled in: iscrowd of 1 annotations (0)",
    ]
