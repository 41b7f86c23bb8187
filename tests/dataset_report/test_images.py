"""Image files: what cannot be read as the annotation file says, and what is in two places."""

import shutil

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
    finding = found(["train"])["train", "image_missing"]
    assert finding.is_error
    assert list(finding.items) == [f"{data}/train/{name}.png" for name in ("000002", "000005")]
    shutil.rmtree(data / "val")
    assert len(found(["val"], quick=False)["val", "image_missing"].items) == 4


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


def test_exif_orientation_is_honoured_as_the_loader_does(data, change, found):
    path = data / "train" / "000001.png"
    turned(path, 6)
    change(lambda coco: coco["images"][0].update(width=64, height=48))
    finding = found(["train"], quick=False)["train", "image_turned"]
    assert finding.is_error and list(finding.items) == ["000001.png is 48x64, stated 64x48"]
    pipeline = [dict(type="LoadImageFromFile", color_type="color_ignore_orientation")]
    assert not found(["train"], quick=False, train_dataloader__dataset__pipeline=pipeline)
    change(lambda coco: coco["images"][0].update(width=48, height=64))
    assert not [key for _, key in found(["train"], quick=False) if key.startswith("image_")]


def test_orientation_that_the_size_does_not_show(data, found):
    for i, orientation in (1, 3), (2, 6), (3, 1):
        turned(data / "train" / f"00000{i}.png", orientation, (64, 64))
    finding = found(["train"], quick=False)["train", "image_orientation"]
    assert not finding.is_error and finding.items == ["000001.png", "000002.png"]


def test_copies_between_and_inside_splits(data, found):
    """Equal names in two folders are no evidence: the drawings are numbered from 1 in both."""
    shutil.copy(data / "train" / "000001.png", data / "val" / "000004.png")
    shutil.copy(data / "train" / "000002.png", data / "train" / "000007.png")
    assert not found()
    findings = found(quick=False)
    assert set(findings) == {("", "image_in_two_splits"), ("", "image_copied")}
    assert not any(finding.is_error for finding in findings.values())
    assert set(findings["", "image_in_two_splits"].items[0].split(" = ")) == {
        f"{data}/train/000001.png",
        f"{data}/val/000004.png",
    }


def test_the_same_file_in_two_splits(data, found):
    findings = found(val_dataloader__dataset__data_prefix=dict(img="train/"))
    assert len(findings["", "image_in_two_splits"].items) == 4


def test_only_equal_bytes_are_equal(tmp_path):
    for name, content in dict(a=b"one", b=b"two", c=b"one", d=b"three").items():
        (tmp_path / name).write_bytes(content)
    groups = same_content(str(tmp_path / name) for name in "abcde")
    assert [set(group) for group in groups] == [{f"{tmp_path}/a", f"{tmp_path}/c"}]
