"""Images, folders and videos in; pictures and a COCO file out."""

import csv
import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from tools.dataset_converters import voc, yolo
from tools.infer import parse_args

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def infer(tool, tmp_path, untrained):
    """Runs the tool on the CPU and returns what it has written in its predictions.json."""

    def infer(*inputs: Path, config: Path = CONFIG, options: tuple = ("--score-thr", 0)) -> dict:
        args = [*inputs, config, untrained(config), "--out-dir", tmp_path / "out", "--device", "cpu"]
        tool("infer", *args, *options)
        return json.loads((tmp_path / "out" / "predictions.json").read_text())

    return infer


@pytest.mark.parametrize("name", ["tiny_ddetr", "tiny_dino", "tiny_detr"])
def test_finds_what_the_test_finds(tool, tmp_path, shapes_root, untrained, infer, capsys, name):
    """With the ids of the annotation file, the file holds the very detections of tools/test.py."""
    config = CONFIG.with_name(f"{name}.py")
    pickled = tmp_path / "results.pkl"
    tool("test", config, untrained(config), "--out", pickled, "--work-dir", tmp_path)
    ann_file = shapes_root / "annotations" / "val.json"
    options = ("--score-thr", 0, "--ann-file", ann_file, "--batch-size", 3)
    found = infer(shapes_root / "val", config=config, options=options)

    truth = json.loads(ann_file.read_text())
    assert found["categories"] == [
        {key: category[key] for key in ("id", "name")} for category in truth["categories"]
    ]
    sizes = {image["id"]: (image["file_name"], image["width"]) for image in truth["images"]}
    assert {image["id"]: (image["file_name"], image["width"]) for image in found["images"]} == sizes
    results = pickle.loads(pickled.read_bytes())
    assert len(results) == 4 and len(found["annotations"]) == 4 * 10
    for result in results:
        mine = [ann for ann in found["annotations"] if ann["image_id"] == result["img_id"]]
        expected = result["pred_instances"]
        boxes = torch.tensor([ann["bbox"] for ann in mine])
        boxes[:, 2:] += boxes[:, :2]
        torch.testing.assert_close(boxes, expected["bboxes"], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(torch.tensor([ann["score"] for ann in mine]), expected["scores"])
        assert [ann["category_id"] - 1 for ann in mine] == expected["labels"].tolist()
    assert len(list((tmp_path / "out" / "vis").glob("*.png"))) == 4
    assert "40 detections in 4 images" in capsys.readouterr().out


def test_results_in_other_forms(tmp_path, shapes_root, infer):
    """The readers of `to_coco.py` find the same boxes again."""
    found = infer(shapes_root / "val", options=("--score-thr", 0, "--to", "yolo", "voc", "csv"))
    out, names = tmp_path / "out", {c["id"]: c["name"] for c in found["categories"]}
    shutil.copytree(shapes_root / "val", out / "yolo" / "images")
    shutil.copytree(shapes_root / "val", out / "images")
    for file in (out / "yolo" / "labels").glob("*.txt"):  # the reader wants no scores
        file.write_text("".join(line.rsplit(" ", 1)[0] + "\n" for line in file.read_text().splitlines()))
    with open(out / "csv" / "predictions.csv") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(found["annotations"]) == 40
    for reader in (yolo, voc):  # which round to a hundredth
        for picture in reader.read(out / reader.__name__.rpartition(".")[2]).pictures:
            (image,) = [x for x in found["images"] if x["file_name"] == picture.path.name]
            expected = [ann for ann in found["annotations"] if ann["image_id"] == image["id"]]
            assert [x["name"] for x in picture.objects] == [names[ann["category_id"]] for ann in expected]
            boxes = [ann["bbox"] for ann in expected]
            np.testing.assert_allclose([x["bbox"] for x in picture.objects], boxes, atol=0.011)
    for row, ann in zip(table, found["annotations"], strict=True):
        x, y, w, h = ann["bbox"]
        assert (row["class"], float(row["score"])) == (names[ann["category_id"]], ann["score"])
        np.testing.assert_allclose(
            [float(row[key]) for key in ("x1", "y1", "x2", "y2")], [x, y, x + w, y + h]
        )


def test_only_the_forms_that_are_asked_for(tmp_path, shapes_root, infer, tool, checkpoint):
    found = infer(shapes_root / "val", options=("--score-thr", 0))
    options = "--score-thr", "0", "--no-save-pred", "--no-save-vis", "--to", "coco", "csv"
    tool("infer", shapes_root / "val", CONFIG, checkpoint, "--out-dir", tmp_path / "forms", *options)
    files = {str(x.relative_to(tmp_path / "forms")) for x in (tmp_path / "forms").rglob("*.*")}
    assert files == {"coco/predictions.json", "csv/predictions.csv"}
    assert json.loads((tmp_path / "forms/coco/predictions.json").read_text()) == found


def test_two_images_of_one_stem_keep_their_results(tmp_path, shapes_root, infer):
    for number, name in (1, "a.png"), (2, "a.jpg"), (3, "b.png"):
        image = cv2.imread(str(shapes_root / "val" / f"00000{number}.png"))
        cv2.imwrite(str(tmp_path / name), image)
    infer(tmp_path, options=("--score-thr", 0, "--to", "yolo", "voc"))
    assert {x.name for x in (tmp_path / "out/yolo/labels").iterdir()} == {"a.png.txt", "a.jpg.txt", "b.txt"}
    assert {x.name for x in (tmp_path / "out/voc").iterdir()} == {"a.png.xml", "a.jpg.xml", "b.xml"}


def test_a_video_becomes_a_video(tmp_path, shapes_root, infer):
    picture = np.full((64, 64, 3), (40, 90, 160), np.uint8)
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 64))
    for _ in range(3):
        writer.write(picture)
    writer.release()
    found = infer(clip, shapes_root / "val", options=("--score-thr", 1, "--batch-size", 2))
    assert [image.get("frame_id") for image in found["images"]] == [0, 1, 2] + 4 * [None]
    assert [image["id"] for image in found["images"]] == [1, 2, 3, 4, 5, 6, 7]
    assert found["annotations"] == []
    drawn = cv2.VideoCapture(str(tmp_path / "out" / "vis" / "clip.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (3, 5)
    assert np.abs(drawn.read()[1].astype(int) - picture).mean() < 5  # nothing is drawn; MPEG-4 loses a little


def test_addresses_are_fetched(web, shapes_root, infer):
    folder, address = web
    for number in (1, 2):
        (folder / str(number)).mkdir()
        shutil.copy(shapes_root / "val" / f"00000{number}.png", folder / str(number) / "a.png")
    found = infer(f"{address}/1/a.png", f"{address}/2/a.png?size=large")
    assert [image["file_name"] for image in found["images"]] == ["0/a.png", "1/a.png"]
    local = infer(*(shapes_root / "val" / f"00000{number}.png" for number in (1, 2)))
    assert found["annotations"] == local["annotations"]


def test_what_cannot_be_read_is_skipped_and_named(tmp_path, shapes_root, infer, capsys):
    folder = tmp_path / "mixed"
    shutil.copytree(shapes_root / "val", folder)
    (folder / "000.png").write_bytes(b"")
    cv2.imwrite(str(folder / "001 # thin 100%.png"), np.zeros((5000, 1, 3), np.uint8))
    (folder / "000001.png").rename(folder / "Übersicht #1 (100%).png")
    (folder / "zzz.mp4").write_text("no video")
    found = infer(folder, options=("--no-save-vis", "--print-result", "--score-thr", 0))
    printed = capsys.readouterr()
    assert len(found["images"]) == 4
    assert "000.png is empty" in printed.err and "zzz.mp4 can't be opened" in printed.err
    assert "Resize" in next(line for line in printed.err.splitlines() if "001 # thin 100%.png" in line)
    assert (
        "3 files can't be read or prepared, or not to the end: 000.png, 001 # thin 100%.png, zzz.mp4"
        in printed.out
    )
    assert "Übersicht #1 (100%).png" in {image["file_name"] for image in found["images"]}
    first = found["annotations"][0]
    assert f"  {found['categories'][first['category_id'] - 1]['name']} {first['score']:.3f}  " in (
        printed.out
    )
    assert not (tmp_path / "out" / "vis").exists()


def test_classes_of_coco_have_its_ids(shapes_root, heir, infer):
    """80 classes, of which the last has the id 90."""
    config = heir(
        "model = dict(bbox_head=dict(num_classes=80))\ntest_dataloader = dict(dataset=dict(metainfo=None))"
    )
    found = infer(next((shapes_root / "val").glob("*.png")), config=config)
    assert len(found["categories"]) == 80
    assert found["categories"][0] == dict(id=1, name="person")
    assert found["categories"][-1] == dict(id=90, name="toothbrush")


def test_mistakes_are_named(tmp_path, checkpoint, one_line_error):
    def error(*args):
        return one_line_error("infer", *args, "--device", "cpu", "--out-dir", tmp_path / "out")

    assert "none.jpg: " in error(tmp_path / "none.jpg", CONFIG, checkpoint)
    (tmp_path / "empty.png").write_bytes(b"")
    assert "nothing could be read: empty.png" in error(tmp_path / "empty.png", CONFIG, checkpoint)
    assert not (tmp_path / "out").exists()


def test_slices_add_what_the_whole_image_hides(infer, shapes_root):
    image = shapes_root / "val" / "000001.png"
    whole = infer(image)["annotations"]
    sliced = infer(image, options=("--score-thr", 0, "--slice", 32, "--slice-iou-thr", 1))["annotations"]
    assert len(sliced) > len(whole)
    scores = [found["score"] for found in sliced]
    assert scores == sorted(scores, reverse=True)


def test_a_config_before_an_exported_file_is_named(shapes_root, capsys):
    with pytest.raises(SystemExit):
        parse_args([str(shapes_root / "val"), str(CONFIG), "detector.onnx"])
    assert f"{CONFIG}: detector.onnx has its config inside" in capsys.readouterr().err
