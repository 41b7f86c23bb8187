"""Each fault of an annotation file is found, named, and stops a training or not."""

import math

import numpy as np
import pytest
from mmengine.registry import DATASETS

from projects.reliable_runner.data.statistics import check_corners


def first(coco: dict) -> dict:
    return coco["annotations"][0]


def test_clean_drawings_have_no_fault(check):
    report = check(quick=False)
    assert not report.findings
    assert report.verdict == "can train"
    assert list(report.checked) == ["train", "val"]


@pytest.mark.parametrize(
    ("change_to", "key"),
    [
        (dict(bbox=[5, 5, 0, 9]), "box_of_zero_or_negative_width_or_height"),
        (dict(bbox=[5, 5, 9, -9]), "box_of_zero_or_negative_width_or_height"),
        (dict(bbox=[5, 5, math.nan, 9]), "box_not_finite"),
        (dict(bbox=[math.inf, 5, 9, 9]), "box_not_finite"),
        (dict(bbox=[64, 5, 9, 9]), "box_outside_the_image"),
        (dict(bbox=[5, -9, 9, 9]), "box_outside_the_image"),
        (dict(bbox=[5, 5, 9, 0.5]), "box_thinner_than_a_pixel"),
        (dict(area=0), "box_whose_area_is_zero_or_negative"),
        (dict(bbox=[50, 5, 20, 20]), "box_partly_outside"),
        (dict(bbox=[50, 5, 14.5, 20]), None),  # rounded, not wrong
        (dict(image_id=77), "unknown_image_id"),
        (dict(category_id="1"), "unknown_category_id"),
    ],
)
def test_a_bad_annotation_is_a_warning_with_its_id(change, found, change_to, key):
    coco = change(lambda coco: first(coco).update(change_to))
    findings = found()
    assert list(findings) == ([("train", key)] if key else [])
    for finding in findings.values():
        assert not finding.is_error
        (item,) = finding.items
        id_ = first(coco)["id"]
        assert item == id_ or item == f"annotation {id_} in 000001.png"


def repeat(section: str, **changes):
    return lambda coco: coco[section].append({**coco[section][-1], **changes})


@pytest.mark.parametrize(
    ("edit", "split", "key", "is_error"),
    [
        (repeat("annotations", bbox=[1, 1, 12, 12]), "train", "repeated_id_annotations", True),
        (repeat("images", file_name="000001.png"), "val", "repeated_id_images", True),
        (repeat("categories", name="star"), "train", "repeated_id_categories", True),
        (repeat("annotations", id=999), "train", "repeated_annotation", False),
        (repeat("images", id=999), "train", "image_repeated", False),
        (repeat("categories", id=999, name="star"), "train", "categories_ignored", False),
        (repeat("categories", id=999), "train", "classes", True),
        (lambda coco: first(coco).pop("area"), "train", "annotations_area", True),
        (lambda coco: first(coco).pop("iscrowd"), "train", "annotations_iscrowd", False),
        (lambda coco: first(coco).pop("iscrowd"), "val", "annotations_iscrowd", True),
        (lambda coco: first(coco).update(bbox=[1, 2, 3]), "train", "annotations_bbox", True),
        (lambda coco: first(coco).update(bbox=[1, 2, 3, "4"]), "val", "annotations_bbox", True),
        (lambda coco: coco["annotations"].append(3), "train", "annotations_", True),
        (lambda coco: coco["images"][0].pop("width"), "train", "images_width", True),
        (lambda coco: coco["categories"].reverse(), "train", "classes", True),
        (lambda coco: coco.pop("annotations"), "train", "section_missing", True),
        (lambda coco: coco.update(annotations=[]), "train", "nothing_usable", True),
    ],
)
def test_faults_of_entries(change, found, edit, split, key, is_error):
    change(edit, split)
    assert found()[split, key].is_error == is_error


@pytest.mark.parametrize("seed", range(3))
def test_an_error_is_what_stops_the_data_set(change, check, seed):
    """A random fault: the report cannot be calmer than the data set, which raises what it cannot take."""
    rng = np.random.default_rng(seed)
    section, key = [("annotations", "area"), ("images", "height"), ("categories", "id")][seed]
    change(lambda coco: coco[section][rng.integers(len(coco[section]))].pop(key))
    report = check(["train"])
    assert report.errors
    with pytest.raises(ValueError, match=f"has no '{key}'"):
        DATASETS.build({**report.checked["train"].source.cfg, "pipeline": []})


def test_all_faults_are_listed_at_once(change, found):
    def edit(coco):
        for ann in coco["annotations"]:
            del ann["area"], ann["iscrowd"]
        coco["annotations"][0]["bbox"] = [5, 5, 0, 9]
        coco["annotations"][1]["id"] = coco["annotations"][2]["id"]
        coco["images"].append(dict(coco["images"][0], id=55))

    coco = change(edit, "val")
    findings = found()
    assert set(findings) == {
        ("val", "annotations_area"),
        ("val", "annotations_iscrowd"),
        ("val", "box_of_zero_or_negative_width_or_height"),
        ("val", "repeated_id_annotations"),
        ("val", "image_repeated"),
    }
    assert len(findings["val", "annotations_area"].items) == len(coco["annotations"])


def test_all_boxes_as_corners_are_an_error(change, found):
    def edit(coco):
        for ann in coco["annotations"]:
            x, y, width, height = ann["bbox"]
            ann["bbox"] = [x, y, x + width, y + height]

    change(edit)
    assert found()["train", "boxes_as_corners"].is_error


@pytest.mark.parametrize("seed", range(20))
def test_corners_are_told_from_sizes(seed):
    """Random boxes in random images, both ways of writing them, and a tenth mixed in."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(64, 1000, (200, 2)).astype(float)
    first, second = np.sort(rng.uniform(0, 1, (2, 200, 2)), axis=0) * sizes
    as_sizes, as_corners = np.hstack((first, second - first)), np.hstack((first, second))
    assert not check_corners(as_sizes, sizes)
    assert not check_corners(as_sizes[:0], sizes[:0])
    assert check_corners(as_corners, sizes)[0].is_error
    mixed = as_sizes.copy()
    mixed[:20] = as_corners[:20]
    assert [finding.is_error for finding in check_corners(mixed, sizes)] in ([False], [])


def test_more_objects_than_are_found_or_counted(found):
    findings = found(
        model__num_queries=2,
        model__test_cfg__max_per_img=3,
        val_evaluator__proposal_nums=(1, 2, 3),
    )
    assert {key for split, key in findings if split == "train"} == {"more_than_model.num_queries"}
    assert {key for split, key in findings if split == "val"} == {
        "more_than_model.num_queries",
        "more_than_model.test_cfg.max_per_img",
        "more_than_val_evaluator.proposal_nums[-1]",
    }
    for item in findings["train", "more_than_model.num_queries"].items:
        assert int(item.split("(")[1].rstrip(")")) > 2


def test_number_of_classes(found):
    findings = found(model__bbox_head__num_classes=4)
    assert findings["train", "num_classes"].is_error
    assert "num_classes is 4" in findings["val", "num_classes"].message


def test_class_without_an_object_and_one_written_as_a_string(change, found):
    change(lambda coco: coco.update(annotations=[a for a in coco["annotations"] if a["category_id"] < 3]))
    finding = found()["train", "class_without_objects"]
    assert list(finding.items) == ["triangle"] and not finding.is_error
    metainfo = dict(classes="circle")
    assert found(train_dataloader__dataset__metainfo=metainfo)["train", "classes"].is_error


def test_what_only_the_data_set_knows(found):
    findings = found(train_dataloader__dataset__filter_cfg=dict(min_size=100))
    assert "leaves none of its 8 images" in findings["train", "load"].message
