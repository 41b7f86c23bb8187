"""The data set names what is wrong with its input, and keeps what is right with it."""

import copy
import json

import pytest
from mmcv.transforms import Resize
from PIL import Image

from projects.reliable_runner.data.coco_dataset import CocoDataset
from projects.reliable_runner.data.image_loading import LoadImageFromFile
from projects.reliable_runner.errors import InputError

CLASSES = ("circle", "square")


@pytest.fixture
def coco() -> dict:
    """Three images of 40x30; the first has two boxes and a crowd, the second one box, the third none."""
    boxes = [(1, 1, [5, 5, 10, 10], 0), (1, 2, [0, 0, 8, 8], 0), (1, 1, [9, 9, 20, 20], 1)]
    boxes += [(2, 2, [30, 20, 20, 20], 0)]  # partly outside
    return dict(
        images=[dict(id=i, file_name=f"{i}.png", width=40, height=30) for i in (1, 2, 3)],
        annotations=[
            dict(id=i, image_id=image, category_id=category, bbox=box, iscrowd=crowd, area=box[2] * box[3])
            for i, (image, category, box, crowd) in enumerate(boxes, 1)
        ],
        categories=[dict(id=1, name="circle"), dict(id=2, name="square")],
    )


@pytest.fixture
def load(tmp_path):
    """Write the annotations to a file and load that as a data set."""

    def load_(content: dict, cls=CocoDataset, classes=CLASSES, **kwargs):
        (tmp_path / "train.json").write_text(json.dumps(content))
        metainfo = dict(classes=classes) if classes else None
        prefix = dict(img="images")
        return cls("train.json", data_root=str(tmp_path), data_prefix=prefix, metainfo=metainfo, **kwargs)

    return load_


def add_box(coco: dict, **changes) -> None:
    box = dict(id=100 + len(coco["annotations"]), image_id=1, category_id=1, iscrowd=0)
    coco["annotations"].append({**box, "bbox": [1, 1, 5, 5], "area": 25, **changes})


@pytest.mark.parametrize("test_mode", [False, True])
def test_good_data_load_as_mmdet_loads_them_without_a_message(coco, load, logged, test_mode):
    options = dict(filter_cfg=dict(filter_empty_gt=False), serialize_data=False, test_mode=test_mode)
    ours, theirs = load(coco, **options), load(coco, CocoDataset.__base__, **options)
    assert ours.data_list == theirs.data_list
    assert len(ours) == 3  # the image without objects stays
    assert [box["ignore_flag"] for box in ours.data_list[0]["instances"]] == [0, 0, 1]
    assert ours.data_list[1]["instances"][0]["bbox"] == [30, 20, 50, 40]
    assert not [text for level, texts in logged.items() for text in texts if level != "DEBUG"]
    assert ours.max_instances == (2, ours.data_list[0]["img_path"])  # without the crowd


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        (("circle", "sqare"), ("sqare", "['circle', 'sqare']", "['circle', 'square']")),
        (("circle", "circle"), ("circle more than once",)),
        ("circle", ("metainfo=dict(classes=('circle',))",)),
        (None, ("person, bicycle", "and 75 more")),  # COCO's by default
    ],
)
def test_classes_that_the_file_lacks(coco, load, classes, named):
    with pytest.raises(InputError) as error:
        load(coco, classes=classes)
    assert all(text in str(error.value) for text in named)


def test_labels_follow_the_names_in_any_order(coco, load):
    def labels(**kwargs) -> list[str]:
        dataset = load(coco, serialize_data=False, **kwargs)
        names = dataset.metainfo["classes"]
        return [names[box["bbox_label"]] for info in dataset.data_list for box in info["instances"]]

    expected = labels()
    assert set(expected) == {"circle", "square"}
    coco["categories"] = [*coco["categories"][::-1], dict(id=9, name="star")]
    assert labels() == labels(classes=CLASSES[::-1]) == expected


def test_a_category_name_that_two_have_is_refused(coco, load):
    coco["categories"].append(dict(id=9, name="circle"))
    with pytest.raises(InputError, match="several categories are named circle"):
        load(coco)
    assert load(coco, classes=("square",))


def test_more_categories_than_classes_is_a_warning_with_both_lists(coco, load, warnings):
    dataset = load(coco, classes=("square",), serialize_data=False)
    assert [box["bbox_label"] for info in dataset.data_list for box in info["instances"]] == [0, 0]
    (warning,) = warnings
    assert "['square']" in warning and "['circle', 'square']" in warning


def test_boxes_that_cannot_be_trained_on_are_skipped_counted_and_named_once(coco, load, warnings):
    good = load(coco, serialize_data=False).data_list
    bad = copy.deepcopy(coco)
    for box in ([3, 3, 0, 9], [3, 3, 9, -2], [40, 3, 9, 9], [-9, 3, 9, 9], [3, 3, 9, 0.5]):
        add_box(bad, bbox=box)
    for number in (float("nan"), float("inf")):
        add_box(bad, bbox=[3, 3, number, 9], image_id=2)
    add_box(bad, area=0)
    add_box(bad, image_id=77)
    add_box(bad, category_id=88)
    assert load(bad, serialize_data=False).data_list == good
    (warning,) = warnings
    for line in (
        "10 annotations are skipped",
        "2 of zero or negative width or height: annotation 104 in 1.png, annotation 105 in 1.png",
        "2 outside the image: annotation 106 in 1.png, annotation 107 in 1.png",
        "1 thinner than a pixel: annotation 108 in 1.png",
        "2 NaN or infinite: annotation 109 in 2.png, annotation 110 in 2.png",
        "1 whose 'area' is zero or negative: annotation 111 in 1.png",
        "1 whose image_id the file does not hold: annotation 112 (image_id 77)",
        "1 whose category_id the file does not hold: annotation 113 (category_id 88)",
    ):
        assert line in warning


def test_left_out_images_are_counted(coco, load, logged):
    assert len(load(coco, filter_cfg=dict(filter_empty_gt=True))) == 2
    assert any("1 of 3 images" in text for texts in logged.values() for text in texts)
    with pytest.raises(InputError, match="'min_size': 100} leaves none of its 3 images"):
        load(coco, filter_cfg=dict(min_size=100))
    with pytest.raises(InputError, match="it holds no image"):
        load(dict(coco, images=[], annotations=[]))


@pytest.mark.parametrize(
    ("change", "fault"),
    [(dict(image_id="1"), "image_id '1'"), (dict(bbox=[0.2, 0.2, 0.5, 0.5]), "4 thinner than a pixel")],
)
def test_no_annotation_left(coco, load, change, fault):
    for ann in coco["annotations"]:
        ann.update(change)
    with pytest.raises(InputError, match=f"{fault}[^$]*None is left"):
        load(coco)


def test_an_image_that_a_resize_wipes_out_is_named(coco, load, tmp_path):
    coco["images"][0].update(width=1, height=400)
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1, 400)).save(tmp_path / "images" / "1.png")
    coco["annotations"][0]["bbox"] = [0, 0, 1, 400]
    dataset = load(coco, pipeline=[LoadImageFromFile(), Resize((48, 48), keep_ratio=True)])
    with pytest.raises(InputError, match=r"image .*1\.png \(1x400\): Resize"):
        dataset[0]


def test_missing_images_and_suspicions_are_known_before_training(coco, load, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "2.png").touch()
    dataset = load(coco)
    assert dataset.missing_images == [f"{tmp_path}/images/{i}.png" for i in (1, 3)]
    assert not dataset.suspicions
    for ann in coco["annotations"]:
        ann.update(category_id=1, bbox=[20, 15, 36, 28])
    corners, absent = load(coco).suspicions
    assert corners.key == "boxes_as_corners" and absent.items == ["square"]
