"""The data set names what is wrong with its input, and keeps what is right with it."""

import copy
import gzip
import json

import pytest
from mmengine.logging import MMLogger
from PIL import Image

from projects.reliable_runner.data.coco_dataset import CocoDataset
from projects.reliable_runner.errors import InputError
from projects.deformable_detr.registry import DATASETS, TRANSFORMS

CLASSES = ("circle", "square")


@pytest.fixture
def log(monkeypatch) -> list[tuple[str, str]]:
    """What is logged: (level, message)."""
    records = []
    monkeypatch.setattr(
        MMLogger,
        "handle",
        lambda _, record: records.append((record.levelname, record.getMessage())),
    )
    return records


@pytest.fixture
def coco() -> dict:
    """Three images of 40x30; the first has two boxes and a crowd, the second one box, the third none."""
    boxes = [(1, 1, [5, 5, 10, 10], 0), (1, 2, [0, 0, 8, 8], 0), (1, 1, [9, 9, 20, 20], 1)]
    boxes += [(2, 2, [30, 20, 20, 20], 0)]  # partly outside
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "width": 40, "height": 30} for i in (1, 2, 3)
        ],
        "annotations": [
            {"id": i, "image_id": image, "category_id": category, "bbox": box, "iscrowd": crowd}
            | {"area": box[2] * box[3]}
            for i, (image, category, box, crowd) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "circle"}, {"id": 2, "name": "square"}],
    }


@pytest.fixture
def load(tmp_path):
    """Write the annotations to a file and load that as a data set."""

    def load_(content, cls=CocoDataset, classes=CLASSES, **kwargs):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "train.json").write_text(text)
        return cls(
            ann_file="train.json",
            data_root=str(tmp_path),
            data_prefix={"img": "images"},
            metainfo={"classes": classes},
            **kwargs,
        )

    return load_


def add_box(coco: dict, **changes) -> None:
    box = {"id": 100 + len(coco["annotations"]), "image_id": 1, "category_id": 1, "iscrowd": 0}
    coco["annotations"].append(box | {"bbox": [1, 1, 5, 5], "area": 25} | changes)


def test_shadows_mmdets_name_in_our_scope():
    assert DATASETS.get("CocoDataset") is CocoDataset


@pytest.mark.parametrize("test_mode", [False, True])
def test_good_data_load_as_mmdet_loads_them_without_a_warning(coco, load, log, test_mode):
    kwargs = {"serialize_data": False, "test_mode": test_mode}
    ours = load(coco, filter_cfg={"filter_empty_gt": False}, **kwargs)
    theirs = load(coco, CocoDataset.__base__, filter_cfg={"filter_empty_gt": False}, **kwargs)
    assert ours.data_list == theirs.data_list
    assert len(ours) == 3  # the image without objects stays
    assert [box["ignore_flag"] for box in ours.data_list[0]["instances"]] == [0, 0, 1]
    assert ours.data_list[1]["instances"][0]["bbox"] == [30, 20, 50, 40]
    assert not [message for level, message in log if level != "DEBUG"]


def test_most_objects_in_an_image_without_crowds(coco, load):
    count, image = load(coco).max_instances
    assert (count, image.rsplit("/", 1)[1]) == (2, "1.png")


def test_missing_file_lists_its_neighbours(tmp_path):
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(InputError, match=r"train\.json does not exist; .* holds val\.json"):
        CocoDataset(ann_file=str(tmp_path / "train.json"))
    with pytest.raises(InputError, match=f"there is no folder {tmp_path}/no$"):
        CocoDataset(ann_file=str(tmp_path / "no" / "such" / "train.json"))


def test_compressed_file(tmp_path):
    (tmp_path / "train.json").write_bytes(gzip.compress(b"{}"))
    with pytest.raises(InputError, match=r"train\.json is no text; .* unpack it"):
        CocoDataset(ann_file=str(tmp_path / "train.json"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not JSON"),
        ('{\n"images": [,]}', "not JSON: .* at line 2, column 12"),
        ("[1, 2]", "must hold one JSON object with images, annotations, categories"),
        ("{}", "no images, annotations, categories"),
        ('{"images": [], "info": {}}', r"no annotations, categories \(it holds images, info\)"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is no list but dict"),
    ],
)
def test_no_coco_file(load, text, reason):
    with pytest.raises(InputError, match=f"train.json .*{reason}"):
        load(text)


@pytest.mark.parametrize(
    ("section", "index", "change", "reason"),
    [
        ("images", 1, {"width": None}, r"images\[1\] \(id 2\) has width None"),
        ("images", 2, {"id": 1}, r"images\[2\] \(id 1\) repeats an id"),
        (
            "annotations",
            0,
            {"bbox": [1, 2, 3]},
            r"annotations\[0\] \(id 1\) has bbox \[1, 2, 3\] in",
        ),
        ("annotations", 3, {"bbox": [1, 2, 3, "4"]}, r"\(id 4\) has bbox"),
        ("annotations", 3, {"bbox": None}, r"\(id 4\) has bbox None"),
        ("categories", 0, {"name": 3}, r"categories\[0\] \(id 1\) has name 3"),
    ],
)
def test_entry_of_wrong_shape_is_named(coco, load, section, index, change, reason):
    coco[section][index] |= change
    with pytest.raises(InputError, match=reason):
        load(coco)


def test_missing_key_is_named_with_the_remedy(coco, load):
    for ann in coco["annotations"]:
        del ann["area"]
    with pytest.raises(InputError, match=r"\(id 1\) has no 'area' \(width \* height .*\(id 4\)"):
        load(coco)


def test_what_only_the_metric_needs(coco, load):
    for ann in coco["annotations"]:
        del ann["iscrowd"]
    load(coco)
    with pytest.raises(InputError, match="has no 'iscrowd'"):
        load(coco, test_mode=True)
    del coco["annotations"]  # as in COCO's test-dev
    assert len(load(coco, test_mode=True)) == 3


def test_classes_that_the_file_lacks(coco, load):
    with pytest.raises(InputError) as error:
        load(coco, classes=("circle", "sqare"))
    message = str(error.value)
    assert "no category sqare" in message
    assert "['circle', 'sqare']" in message and "['circle', 'square']" in message
    assert "metainfo=dict(classes=('circle', 'square'))" in message


def test_default_classes_are_cocos(coco, tmp_path):
    (tmp_path / "train.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match="no category person, bicycle, .* and 75 more"):
        CocoDataset(ann_file=str(tmp_path / "train.json"))


def test_order_of_classes_counts(coco, load):
    with pytest.raises(InputError, match="names repeat or differ in order"):
        load(coco, classes=("square", "circle"))


def test_one_class_written_as_a_string(coco, load):
    with pytest.raises(InputError, match=r"metainfo=dict\(classes=\('circle',\)\)"):
        load(coco, classes="circle")


def test_more_categories_than_classes_is_a_warning_with_both_lists(coco, load, log):
    dataset = load(coco, classes=("square",), serialize_data=False)
    assert [box["bbox_label"] for info in dataset.data_list for box in info["instances"]] == [0, 0]
    (warning,) = [message for level, message in log if level == "WARNING"]
    assert "['square']" in warning and "['circle', 'square']" in warning


def test_boxes_that_cannot_be_learnt_are_skipped_counted_and_named_once(coco, load, log):
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
    (warning,) = [message for level, message in log if level == "WARNING"]
    for line in (
        "10 annotations are skipped",
        "2 of zero or negative width or height: annotation 104 in 1.png, annotation 105 in 1.png",
        "2 outside the image: annotation 106 in 1.png, annotation 107 in 1.png",
        "1 thinner than a pixel: annotation 108 in 1.png",
        "2 not finite: annotation 109 in 2.png, annotation 110 in 2.png",
        "1 whose 'area' is zero or negative: annotation 111 in 1.png",
        "1 whose image_id the file does not hold: annotation 112 (image_id 77)",
        "1 whose category_id the file does not hold: annotation 113 (category_id 88)",
    ):
        assert line in warning


def test_long_lists_are_cut(coco, load, log):
    for _ in range(20):
        add_box(coco, bbox=[3, 3, 0, 9])
    load(coco)
    (warning,) = [message for level, message in log if level == "WARNING"]
    assert "annotation 108 in 1.png and 15 more" in warning


def test_left_out_images_are_counted(coco, load, log):
    assert len(load(coco, filter_cfg={"filter_empty_gt": True})) == 2
    assert any("1 of 3 images are left out by filter_cfg" in message for _, message in log)


def test_no_image_left(coco, load):
    with pytest.raises(InputError, match="'min_size': 100} leaves none of its 3 images"):
        load(coco, filter_cfg={"min_size": 100})
    with pytest.raises(InputError, match="it holds no image"):
        load({"images": [], "annotations": [], "categories": coco["categories"]})


def test_ids_that_never_meet(coco, load):
    for ann in coco["annotations"]:
        ann["image_id"] = str(ann["image_id"])
    with pytest.raises(InputError, match=r"4 whose image_id .* \(image_id '1'\)[^$]*None is left"):
        load(coco)


def test_boxes_in_shares_of_the_image(coco, load):
    for ann in coco["annotations"]:
        ann["bbox"] = [0.2, 0.2, 0.5, 0.5]
    with pytest.raises(InputError, match="4 thinner than a pixel: [^$]*None is left.* in pixels"):
        load(coco)


def test_an_image_that_a_resize_wipes_out_is_named(coco, load, tmp_path):
    coco["images"][0] |= {"width": 1, "height": 400}
    (tmp_path / "images").mkdir()
    Image.new("RGB", (1, 400)).save(tmp_path / "images" / "1.png")
    coco["annotations"][0]["bbox"] = [0, 0, 1, 400]
    resize = {"type": "Resize", "scale": (48, 48), "keep_ratio": True}
    dataset = load(
        coco, pipeline=[TRANSFORMS.build({"type": "LoadImageFromFile"}), TRANSFORMS.build(resize)]
    )
    with pytest.raises(
        InputError, match=r"image .*1\.png \(1x400\) cannot be transformed: .*resize"
    ):
        dataset[0]


def test_missing_images_are_known_before_they_are_loaded(coco, load, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "2.png").touch()
    dataset = load(coco)
    assert dataset.missing_images == [f"{tmp_path}/images/{i}.png" for i in (1, 3)]


def test_boxes_as_corners_and_classes_without_objects_are_suspicious(coco, load):
    assert not load(coco).suspicions
    for ann in coco["annotations"]:
        ann["category_id"] = 1
        ann["bbox"] = [20, 15, 36, 28]
    corners, absent = load(coco).suspicions
    assert "100% of the 4 boxes leave their image" in corners.message
    assert absent.items == ["square"]
