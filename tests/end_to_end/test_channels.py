"""Images of any depth and number of channels from the audit to the pictures."""

import json
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

TINY = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"
CONFIG = """
load = dict(type="LoadImageFromFile", color_type="{color_type}")
train_dataloader = dict(dataset=dict(pipeline=[load, *_base_.train_pipeline[1:]]))
val_dataloader = dict(dataset=dict(pipeline=[load, *_base_.test_pipeline[1:]]))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=[{mean}] * {channels}, std=[{mean}] * {channels}),
    backbone=dict(in_channels={channels}),
)
train_cfg = dict(max_epochs=1)
"""


def write(path: Path, image: np.ndarray, kind: str) -> Path:
    """A picture of the drawings (h, w, 3) as a file of another kind."""
    deep = image.astype(np.uint16) * 16
    if kind == "6 npy":
        path = path.with_suffix(".npy")
        np.save(path, np.concatenate([deep, deep[..., ::-1] // 2], 2))
    else:
        cv2.imwrite(
            str(path), {"1 8": image[..., 0], "1 16": deep[..., 0], "3 16": deep}[kind.split(" bit")[0]]
        )
    return path


@pytest.fixture
def prepare(data, heir):
    """Writes four training and two held-out images of a kind, and a config for them."""

    def prepare_(kind: str, channels: int | None = None) -> tuple[Path, Path]:
        for split, number in ("train", 4), ("val", 2):
            file = data / "annotations" / f"{split}.json"
            coco = json.loads(file.read_text())
            coco["images"] = coco["images"][:number]
            for image in coco["images"]:
                path = data / split / image["file_name"]
                image["file_name"] = write(path, cv2.imread(str(path)), kind).name
            kept = {image["id"] for image in coco["images"]}
            coco["annotations"] = [ann for ann in coco["annotations"] if ann["image_id"] in kept]
            file.write_text(json.dumps(coco))
        settings = dict(channels=channels or int(kind[0]), mean=127.0 if " 8 " in kind else 2000.0)
        settings["color_type"] = "grayscale" if kind.endswith("grayscale") else "unchanged"
        return heir(CONFIG.format(**settings)), data

    return prepare_


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["1 8 bit grayscale", "1 16 bit", "3 16 bit", "6 npy"])
def test_audit_training_test_inference_and_pictures(kind, prepare, tool, tmp_path, capsys):
    config, root = prepare(kind)
    tool("check_dataset", config, "--out-dir", tmp_path / "report")
    assert "can train" in capsys.readouterr().out
    tool("train", config, "--work-dir", tmp_path)
    weights, results = tmp_path / "epoch_1.pth", tmp_path / "results.pkl"
    tool("test", config, weights, "--out", results, "--show-dir", "shown", "--work-dir", tmp_path)
    options = ["--score-thr=0", "--device=cpu", "--out-dir", tmp_path / "out"]
    tool("infer", root / "val", config, weights, *options)
    tool("draw_predictions", config, results, tmp_path / "sheet.png")
    tool("analysis_tools/browse_dataset", config, "--output-dir", tmp_path / "browse")

    found = json.loads((tmp_path / "out" / "predictions.json").read_text())
    tested = sorted(score for result in pickle.loads(results.read_bytes()) for score in scores(result))
    listed = {image["file_name"]: image["id"] for image in found["images"]}
    wanted = [
        image["file_name"] for image in json.loads((root / "annotations/val.json").read_text())["images"]
    ]
    kept = {listed[name] for name in wanted}
    inferred = sorted(ann["score"] for ann in found["annotations"] if ann["image_id"] in kept)
    np.testing.assert_allclose(inferred, tested, rtol=1e-4)
    pictures = [*tmp_path.glob("*/shown/*.png"), *(tmp_path / "browse").glob("*.png")]
    pictures += (tmp_path / "out" / "vis").glob("*.png")
    assert len(pictures) >= 2 + 4 + 2
    for path in (*pictures, tmp_path / "sheet.png"):
        picture = np.asarray(Image.open(path))
        assert picture.shape[2] in (3, 4) and picture[..., :3].std() > 20  # neither black nor white


def scores(result: dict) -> list[float]:
    return result["pred_instances"]["scores"].tolist()


def test_deep_images_and_other_channels_are_refused_before_the_first_iteration(
    prepare, tool, tmp_path, one_line_error, capsys
):
    config, root = prepare("6 npy", channels=1)
    for wrong, fault in (
        (config, "000001.npy has 6 channels, {} 1"),
        (TINY, "000001.npy holds uint16 from"),
    ):
        error = one_line_error("train", wrong, "--work-dir", tmp_path)
        assert f"image {root}/train/" + fault.format("but the model takes") in error
        with pytest.raises(SystemExit):
            tool("check_dataset", wrong, "--split", "train", "--out-dir", tmp_path / "report")
        assert fault.format("the model takes") in capsys.readouterr().out
    assert not list(tmp_path.glob("*.pth"))
