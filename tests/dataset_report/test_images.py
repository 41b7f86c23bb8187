"""Image files: what cannot be read as the annotation file says, and what is in two places."""

import shutil

import pytest
from PIL import Image

from projects.dataset_report.images import same_content
from projects.reliable_runner.data.image_loading import missing_files


def turned(path, orientation: int, size=(64, 48)) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, (9, 99, 199)).save(path, format="JPEG", exif=exif)


def test_missing(data, found):
    for name in "000002.png", "000005.png":
        (data / "train" / name).unlink()
    shutil.rmtree(data / "val")
    findings = found(quick=False)
    missing = findings["train", "image_missing"]
    assert missing.is_error
    assert list(missing.items) == [f"{data}/train/{name}.png" for name in ("000002", "000005")]
    assert len(findings["val", "image_missing"].items) == 4


def test_missing_files_in_subfolders_and_at_addresses(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    paths = [f"{tmp_path}/a/1.png", f"{tmp_path}/a/2.png", f"{tmp_path}/b/1.png", "s3://a/3.png"]
    assert missing_files(paths) == paths[1:3]
    monkeypatch.chdir(tmp_path / "a")
    assert missing_files(["1.png", "2.png"]) == ["2.png"]


def test_unreadable_or_of_another_size(data, found):
    """How else a file can be damaged is tested with the loader."""
    path = data / "train" / "000003.png"
    path.write_bytes(path.read_bytes()[:-500])
    Image.new("RGB", (50, 64)).save(data / "train" / "000001.png")
    assert not found()
    findings = found(["train"], quick=False)
    assert list(findings) == [("train", "image_unreadable"), ("train", "image_size")]
    unreadable, other_size = findings.values()
    assert unreadable.is_error and str(path) in unreadable.items[0]
    assert other_size.is_error and other_size.items == ["000001.png is 50x64, stated 64x64"]


@pytest.mark.parametrize(
    ("stated", "color_type", "is_wrong"),
    [((64, 48), "color", True), ((48, 64), "color", False), ((64, 48), "color_ignore_orientation", False)],
)
def test_exif_orientation_is_honoured_as_the_loader_does(stated, color_type, is_wrong, data, change, found):
    turned(data / "train" / "000001.png", 6)
    change(lambda coco: coco["images"][0].update(width=stated[0], height=stated[1]))
    pipeline = [dict(type="LoadImageFromFile", color_type=color_type)]
    findings = found(["train"], quick=False, train_dataloader__dataset__pipeline=pipeline)
    items = [f.items for (_, key), f in findings.items() if key.startswith("image_")]
    assert items == [["000001.png is 48x64 (EXIF orientation 6), stated 64x48"]] * is_wrong


def test_orientation_that_the_size_does_not_show(data, found):
    for i, orientation in (1, 3), (2, 6), (3, 1):
        turned(data / "train" / f"00000{i}.png", orientation, (64, 64))
    finding = found(["train"], quick=False)["train", "image_orientation"]
    assert not finding.is_error and finding.items == ["000001.png", "000002.png"]


def test_copies_between_and_inside_splits(data, found):
    """Equal names in two folders are no evidence: the drawings are numbered from 1 in both."""
    shutil.copy(data / "train" / "000001.png", data / "val" / "000004.png")
    shutil.copy(data / "train" / "000002.png", data / "train" / "000007.png")
    findings = found(quick=False)
    assert set(findings) == {("", "image_in_two_splits"), ("", "image_copied")}
    assert not any(finding.is_error for finding in findings.values())
    (pair,) = findings["", "image_in_two_splits"].items
    assert set(pair.split(" = ")) == {f"{data}/train/000001.png", f"{data}/val/000004.png"}
    # Without opening them, only the same file is one.
    findings = found(val_dataloader__dataset__data_prefix=dict(img="train/"))
    assert len(findings["", "image_in_two_splits"].items) == 4 and len(findings) == 1


def test_only_equal_bytes_are_equal(tmp_path):
    for name, content in dict(a=b"one", b=b"two", c=b"one", d=b"three").items():
        (tmp_path / name).write_bytes(content)
    groups = same_content(str(tmp_path / name) for name in "abcde")
    assert [set(group) for group in groups] == [{f"{tmp_path}/a", f"{tmp_path}/c"}]
