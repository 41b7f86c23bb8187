"""What an annotation file can hold that later code could not work with."""

import json

import pytest

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import CocoFile


@pytest.fixture
def coco() -> dict:
    box = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5], area=25, iscrowd=0)
    return dict(
        images=[dict(id=1, file_name="1.png", width=40, height=30)],
        annotations=[box, dict(box, id=2)],
        categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
    )


@pytest.mark.parametrize("text", ["[" * 10**5 + "]" * 10**5, '{"a": ' * 10**5])
def test_deep_nesting(tmp_path, text):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match="a.json is not COCO: its lists are nested too deeply"):
        CocoFile(str(tmp_path / "a.json"))


def test_a_number_of_thousands_of_digits(tmp_path):
    (tmp_path / "a.json").write_text('{"images": ' + "9" * 5000 + "}")
    with pytest.raises(InputError, match="a.json cannot be read: Exceeds the limit"):
        CocoFile(str(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("images", "width", 10**30),
        ("images", "height", True),
        ("images", "file_name", "a\0.png"),
        ("images", "file_name", "\ud800.png"),
        ("annotations", "id", 2**63),
        ("annotations", "bbox", [1, 1, 10**400, 5]),
        ("annotations", "area", 10**400),
        ("categories", "name", "\udfff"),
    ],
)
def test_values_that_nothing_can_work_with(tmp_path, coco, section, key, value):
    coco[section][0][key] = value
    (tmp_path / "a.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=rf"a.json is not COCO: {section}\[0\] .*has {key} "):
        CocoFile(str(tmp_path / "a.json"))


def test_ids_of_one_kind(tmp_path, coco):
    coco["categories"][1]["id"] = "2"
    (tmp_path / "a.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match="categories have numbers and strings as ids"):
        CocoFile(str(tmp_path / "a.json"))


def test_a_string_is_one_id(tmp_path, coco):
    for category, name in zip(coco["categories"], ("18", "19"), strict=True):
        category["id"] = name
    (tmp_path / "a.json").write_text(json.dumps(coco))
    file = CocoFile(str(tmp_path / "a.json"))
    assert [entry["name"] for entry in file.loadCats("19")] == ["dog"]
    assert [entry["name"] for entry in file.load_cats(["18", "19"])] == ["cat", "dog"]
