"""Each fault of an annotation file is found, named, and stops a training or not."""

import pytest
from mmengine.registry import DATASETS


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
        (dict(area=0), "box_whose_area_is_zero_or_negative"),
        (dict(bbox=[50, 5, 20, 20]), "box_partly_outside"),
        (dict(bbox=[50, 5, 14.5, 20]), None),  # rounded, not wrong
        (dict(image_id=77), "unknown_image_id"),
        (dict(category_id="1"), "unknown_category_id"),
    ],
)
def test_a_bad_annotation_is_a_warning_with_its_id(change, found, change_to, key):
    id_ = first(change(lambda coco: first(coco).update(change_to)))["id"]
    findings = found(["train"])
    assert list(findings) == ([("train", key)] if key else [])
    for finding in findings.values():
        assert not finding.is_error
        assert finding.items in ([id_], [f"annotation {id_} in 000001.png"])


def test_a_class_with_two_labels_is_an_error(found):
    key = ("", "labels_differ")
    findings = found(val_dataloader__dataset__metainfo__classes=("square", "circle", "triangle"))
    assert findings[key].is_error and findings[key].items == ["square", "circle"]
    assert key not in found()


def repeat(section: str, **changes):
    return lambda coco: coco[section].append({**coco[section][-1], **changes})


def as_corners(coco: dict) -> None:
    for ann in coco["annotations"]:
        x, y, width, height = ann["bbox"]
        ann["bbox"] = [x, y, x + width, y + height]


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
        (lambda coco: first(coco).pop("area"), "train", "filled_in", False),
        (lambda coco: first(coco).pop("iscrowd"), "val", "filled_in", False),
        (lambda coco: coco["images"][0].pop("width"), "train", "filled_in", False),
        (lambda coco: first(coco).update(bbox=[1, 2, 3]), "train", "annotations_bbox", True),
        (lambda coco: coco["annotations"].append(3), "train", "annotations_", True),
        (lambda coco: coco["images"][0].update(width="wide"), "train", "images_width", True),
        (lambda coco: coco.pop("images"), "train", "section_missing", True),
        (lambda coco: coco.update(annotations=[]), "train", "nothing_usable", True),
        (lambda coco: [a.update(iscrowd=1) for a in coco["annotations"]], "train", "nothing_usable", True),
        (as_corners, "train", "boxes_as_corners", True),
    ],
)
def test_faults_of_entries(change, found, edit, split, key, is_error):
    change(edit, split)
    assert found([split])[split, key].is_error == is_error


def test_an_error_is_what_stops_the_data_set(change, check):
    """The report cannot be calmer than the data set, which raises what it cannot take."""
    change(lambda coco: [coco["images"][1].pop("id"), first(coco).pop("bbox")])
    report = check(["train"])
    assert [f.key for f in report.errors] == ["images_id", "annotations_bbox"]
    with pytest.raises(ValueError, match="has no 'id'"):
        DATASETS.build({**report.checked["train"].source.cfg, "pipeline": []})


def test_more_objects_than_are_found_or_counted(found):
    findings = found(
        model__num_queries=2, model__test_cfg__max_per_img=3, val_evaluator__proposal_nums=(1, 2, 3)
    )
    assert {key for split, key in findings if split == "train"} == {"more_than_model.num_queries"}
    assert {key for split, key in findings if split == "val"} == {
        "more_than_model.num_queries",
        "more_than_model.test_cfg.max_per_img",
        "more_than_val_evaluator.proposal_nums[-1]",
    }
    for item in findings["train", "more_than_model.num_queries"].items:
        assert int(item.split("(")[1].rstrip(")")) > 2


def test_classes_that_disagree(change, found):
    assert found(["val"], model__bbox_head__num_classes=4)["val", "num_classes"].is_error
    change(lambda coco: coco.update(annotations=[a for a in coco["annotations"] if a["category_id"] < 3]))
    finding = found(["train"])["train", "class_without_objects"]
    assert finding.items == ["triangle"] and not finding.is_error
    metainfo = dict(classes="circle")
    assert found(train_dataloader__dataset__metainfo=metainfo)["train", "classes"].is_error


def test_what_only_the_data_set_knows(found):
    findings = found(["train"], train_dataloader__dataset__filter_cfg=dict(min_size=100))
    assert "none of its 8 images" in findings["train", "load"].message


def test_an_image_that_a_resize_wipes_out(change, found):
    change(lambda coco: coco["images"][0].update(width=1, height=3000))
    finding = found(["train"])["train", "images_vanish"]
    assert finding.items == ["000001.png"] and finding.is_error


def test_a_validation_without_objects_is_a_warning(change, found):
    change(lambda coco: coco.update(annotations=[]), "val")
    finding = found(["val"])["val", "nothing_usable"]
    assert "AP will be -1" in finding.message and not finding.is_error


def test_sizes_at_the_network(found):
    """Drawings of 64 px: a scale of 16 shrinks all, and leaves most shapes below 4 px."""
    pipeline = [dict(type="LoadImageFromFile"), dict(type="Resize", scale=(16, 16), keep_ratio=True)]
    findings = found(["val"], test_dataloader__dataset__pipeline=pipeline)
    shrunk, tiny = findings["val", "images_shrunk"], findings["val", "objects_tiny"]
    assert shrunk.message.startswith("100% of the images") and "25% of its sides" in shrunk.message
    assert "scale=(64, 64)" in shrunk.remedy and not shrunk.is_error
    scale = int(tiny.remedy.partition(")")[0].rpartition(" ")[2])
    pipeline[1]["scale"] = (scale + 1, scale + 1)
    assert ("val", "objects_tiny") not in found(["val"], test_dataloader__dataset__pipeline=pipeline)
