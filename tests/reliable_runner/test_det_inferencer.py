"""MMDetection's call on the drawings, against `inference_detector` and MMDetection's own class."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer as MmdetInferencer
from PIL import Image

from projects.reliable_runner import det_inferencer
from projects.reliable_runner.det_inferencer import DetInferencer
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.inference import inference_detector, init_detector, prepare, read_image
from projects.reliable_runner.slicing import detect_sliced

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def inferencer(checkpoint):
    """Its scores are about 0.01."""
    return DetInferencer(CONFIG, checkpoint, device="cpu", show_progress=False)


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_what_mmdets_finds_in_mmdets_form(inferencer, checkpoint, shapes_root, tmp_path):
    """The same files, too, and pictures in RGB of the size of the image."""
    theirs = MmdetInferencer(
        str(CONFIG), str(checkpoint), "cpu", scope="projects.deformable_detr", show_progress=False
    )
    images = sorted(map(str, (shapes_root / "val").glob("*.png")))
    options = dict(no_save_pred=False, return_vis=True, batch_size=3, pred_score_thr=1.0)
    expected = theirs(images, out_dir=str(tmp_path / "theirs"), **options)
    found = inferencer(images, out_dir=str(tmp_path / "ours"), **options)
    assert files(tmp_path / "ours") == files(tmp_path / "theirs")
    for image, mine, other in zip(images, found["predictions"], expected["predictions"], strict=True):
        assert mine.keys() == other.keys() == {"labels", "scores", "bboxes"}
        assert mine["labels"] == other["labels"] and len(mine["labels"]) == 10
        np.testing.assert_allclose(mine["scores"], other["scores"], rtol=1e-5)
        np.testing.assert_allclose(mine["bboxes"], other["bboxes"], rtol=1e-5, atol=1e-4)
        assert json.loads((tmp_path / "ours" / "preds" / f"{Path(image).stem}.json").read_text()) == mine
    first = np.asarray(Image.open(images[0]))
    picture = found["visualization"][0]  # nothing reaches a score of 1; the visualizer resamples
    assert picture.shape == first.shape and picture.dtype == np.uint8
    np.testing.assert_allclose(picture.mean((0, 1)), first.mean((0, 1)), atol=1)


def test_anything_that_is_an_image(inferencer, shapes_root):
    paths = sorted((shapes_root / "val").glob("*.png"))
    arrays = [cv2.imread(str(path)) for path in paths]
    expected = inferencer(paths)["predictions"]
    for sample, prediction in zip(inference_detector(inferencer.model, paths), expected, strict=True):
        assert sample.pred_instances.bboxes.tolist() == prediction["bboxes"]
    for inputs in (
        str(shapes_root / "val"),
        shapes_root / "val" / "*.png",
        arrays,
        tuple(map(str, paths)),
        map(Image.open, paths),
        (torch.tensor(array[..., ::-1].copy()).permute(2, 0, 1) for array in arrays),
    ):
        found = inferencer(inputs, batch_size=4)
        assert found["visualization"] == []
        for one, other in zip(found["predictions"], expected, strict=True):
            np.testing.assert_allclose(one["bboxes"], other["bboxes"], atol=1e-4)
    assert len(inferencer(arrays[0])["predictions"]) == 1
    (sample,) = inferencer(paths[0], return_datasamples=True)["predictions"]
    assert sample.pred_instances.scores.tolist() == pytest.approx(expected[0]["scores"])


def test_slices_of_an_image_of_pil_as_of_its_file(inferencer, shapes_root):
    path = shapes_root / "val" / "000001.png"
    pixels = read_image(inferencer.model, path)
    expected = detect_sliced(inferencer.model, pixels, prepare(inferencer.model, pixels), 40).pred_instances
    assert len(expected) > 10
    for found in inferencer([path, Image.open(path)], slice_size=40, batch_size=3)["predictions"]:
        np.testing.assert_allclose(found["bboxes"], expected.bboxes, atol=1e-3)
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4)


def test_detections_are_drawn_in_the_colours_of_the_image(inferencer, tmp_path):
    """Red in RGB, whichever way it comes, and no two files of one name."""
    red = np.zeros((40, 60, 3), np.uint8) + np.array([200, 40, 20], np.uint8)
    for folder in "a", "b":
        (tmp_path / folder).mkdir()
        Image.fromarray(red).save(tmp_path / folder / "red.png")
    given = [tmp_path / "a" / "red.png", tmp_path / "b" / "red.png", red[..., ::-1], Image.fromarray(red)]
    shown = inferencer(given, return_vis=True, pred_score_thr=0, out_dir=tmp_path / "out", no_save_pred=False)
    plain = inferencer(given, return_vis=True)["visualization"]
    for drawn, undrawn in zip(shown["visualization"], plain, strict=True):
        assert np.array_equal(undrawn, red) and drawn.shape == red.shape and (drawn != red).any()
        assert np.array_equal(drawn, shown["visualization"][0])
    names = ["red", "red_1", "00000000", "00000001"]
    assert files(tmp_path / "out" / "preds") == sorted(f"{name}.json" for name in names)
    ends = (".png", ".png", ".jpg", ".jpg")
    assert files(tmp_path / "out" / "vis") == sorted(map("".join, zip(names, ends, strict=True)))
    written = cv2.imread(str(tmp_path / "out" / "vis" / "red_1.png"))
    assert np.array_equal(written[..., ::-1], shown["visualization"][1])
    inferencer(red, out_dir=tmp_path / "more")  # numbers go on
    assert files(tmp_path / "more") == ["vis/00000004.jpg"]


def test_writes_and_prints_what_is_asked_for(inferencer, shapes_root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image = shapes_root / "val" / "000001.png"
    inferencer(image)
    inferencer(image, out_dir="out", no_save_vis=True)
    assert files(tmp_path) == ["epoch_1.pth"] and capsys.readouterr().out == ""
    (prediction,) = inferencer(image, print_result=True, pred_score_thr=0)["predictions"]
    name, *lines = capsys.readouterr().out.splitlines()
    assert name == "000001.png" and len(lines) == 10
    label, score, x1, *_ = lines[0].split()
    assert label == inferencer.classes[prediction["labels"][0]]
    assert (float(score), float(x1)) == pytest.approx(
        (prediction["scores"][0], prediction["bboxes"][0][0]), abs=0.05
    )


def test_a_name_stands_for_its_published_weights(monkeypatch, checkpoint, logged):
    calls = []

    def init(config, weights, device, options, pretrained):
        calls.append((config, weights, pretrained))
        return init_detector(CONFIG, checkpoint, device, options)

    monkeypatch.setattr(det_inferencer, "init_detector", init)
    name = "ddetr_r50_50e_two_stage"
    DetInferencer(name)
    DetInferencer(name, "mine.pth")
    assert not logged["WARNING"]
    DetInferencer(CONFIG)
    assert calls == [(name, None, True), (name, "mine.pth", False), (CONFIG, None, False)]
    assert "has no weights" in logged["WARNING"][0]


def test_mistakes_are_named(inferencer, tmp_path):
    with pytest.raises(InputError, match="none.jpg: no image"):
        inferencer(tmp_path / "none.jpg")
    (tmp_path / "torn.png").write_bytes(b"")
    with pytest.raises(InputError, match="torn.png is empty"):
        inferencer(str(tmp_path))
    Image.new("RGB", (40, 40)).save(tmp_path / "black.png")
    with pytest.raises(InputError, match="preds/black.json: can't be written"):
        inferencer(
            tmp_path / "black.png", out_dir=tmp_path / "torn.png", no_save_vis=True, no_save_pred=False
        )
