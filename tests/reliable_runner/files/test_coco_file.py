"""What is wrong with an annotation file is named: the file, the entry, the key."""

import copy
import gzip
import json
import re

import pytest

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import CocoFile

BOX = dict(id=1, image_id=1, category_id=1, bbox=[1, 1, 5, 5], area=25, iscrowd=0)
COCO = dict(
    images=[dict(id=i, file_name=f"{i}.png", width=40, height=30) for i in (1, 2)],
    annotations=[BOX, dict(BOX, id=2)],
    categories=[dict(id=1, name="cat"), dict(id=2, name="dog")],
)


@pytest.fixture
def coco() -> dict:
    return copy.deepcopy(COCO)


@pytest.fixture
def read(tmp_path):
    """Writes a file and reads it."""

    def read_(content: dict | str | bytes, **kwargs) -> CocoFile:
        path = tmp_path / "a.json"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content))
        return CocoFile(str(path), folder=str(tmp_path), **kwargs)

    return read_


def test_missing_file_lists_its_neighbours(tmp_path):
    (tmp_path / "val.json").write_text("{}")
    with pytest.raises(InputError, match=r"train\.json does not exist; .* holds val\.json"):
        CocoFile(str(tmp_path / "train.json"))
    with pytest.raises(InputError, match=f"there is no folder {tmp_path}/no$"):
        CocoFile(str(tmp_path / "no" / "such" / "train.json"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "not JSON"),
        ('{\n"images": [,]}', "not JSON: .* at line 2, column 12"),
        (gzip.compress(b"{}"), "no text; .* unpack it"),
        ("[" * 10**5 + "]" * 10**5, "nested too deeply"),
        ('{"images": ' + "9" * 5000 + "}", "cannot be read: Exceeds the limit"),
        ("[1, 2]", "must hold one JSON object with images, annotations, categories"),
        ("{}", "no images"),
        ('{"categories": [], "info": {}}', r"no images \(it holds categories, info\)"),
        ('{"images": {}, "annotations": [], "categories": []}', "'images' is no list but dict"),
    ],
    ids=range(9),
)
def test_no_coco_file(read, content, reason):
    with pytest.raises(InputError, match=f"a.json .*{reason}"):
        read(content)


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("images", "width", None),
        ("images", "width", 10**30),
        ("images", "height", True),
        ("images", "file_name", "a\0.png"),
        ("annotations", "id", 2**63),
        ("annotations", "bbox", None),
        ("annotations", "bbox", [1, 2, 3]),
        ("annotations", "bbox", [1, 2, 3, "4"]),
        ("annotations", "bbox", [1, 1, 10**400, 5]),
        ("categories", "name", 3),
        ("categories", "name", "\udfff"),
    ],
)
def test_value_that_nothing_can_work_with(read, coco, section, key, value):
    coco[section][1][key] = value
    with pytest.raises(InputError, match=rf"a.json is not COCO: {section}\[1\] .*has {key} "):
        read(coco)


@pytest.mark.parametrize("section", COCO)
def test_ids_are_of_one_kind_and_never_repeat(read, coco, section):
    coco[section][1]["id"] = "2"
    with pytest.raises(InputError, match=f"{section} have numbers and strings as ids"):
        read(coco)
    coco[section][1]["id"] = 1
    with pytest.raises(InputError, match=re.escape(f"{section}[1] (id 1) repeats an id")):
        read(coco)


def test_all_faults_of_all_entries_are_named(read, coco):
    for annotation in coco["annotations"]:
        del annotation["bbox"], annotation["image_id"]
    with pytest.raises(InputError) as error:
        read(coco)
    for number in (1, 2):
        for key in ("image_id", "bbox"):
            assert f"(id {number}) has no {key!r}" in str(error.value)


def test_a_string_is_one_id(read, coco):
    for category, name in zip(coco["categories"], ("18", "19"), strict=True):
        category["id"] = name
    file = read(coco)
    assert [entry["name"] for entry in file.loadCats("19")] == ["dog"]
    assert [entry["name"] for entry in file.load_cats(["18", "19"])] == ["cat", "dog"]
