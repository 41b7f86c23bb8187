"""Images of any depth and number of channels from the audit to the pictures."""

import json
import logging
import pickle
import runpy
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

REPO = Path(__file__).resolve().parents[2]
TOOLS = {
    name: runpy.run_path(str(REPO / "tools" / f"{name}.py"))["main"]
    for name in (
        "check_dataset",
        "train",
        "test",
        "infer",
        "draw_predictions",
        "analysis_tools/browse_dataset",
    )
}
CONFIG = """
_base_ = "{base}"
load = dict(type="LoadImageFromFile", color_type="{color_type}")
train_dataloader = dict(dataset=dict(pipeline=[load, *_base_.train_pipeline[1:]]))
val_dataloader = dict(dataset=dict(pipeline=[load, *_base_.test_pipeline[1:]]))
test_dataloader = val_dataloader
model = dict(
    data_preprocessor=dict(mean=[{mean}] * {channels}, std=[{mean}] * {channels}),
    backbone=dict(in_channels={channels}),
)
train_cfg = dict(max_epochs=1)
experiment_name = "{name}"
visualizer = dict(name="{name}")
"""

pytestmark = pytest.mark.usefixtures("small_run")


def write(path: Path, image: np.ndarray, kind: str) -> Path:
    """A picture of the drawings (h, w, 3) as a file of another kind."""
    grey, deep = image[..., 0], image.astype(np.uint16) * 16
    many = np.concatenate([deep, deep[..., ::-1] // 2], 2)
    if kind == "6 npy":
        np.save(path.with_suffix(".npy"), many)
        return path.with_suffix(".npy")
    if kind == "6 tiff":
        tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
        path = path.with_suffix(".tiff")
        tifffile.imwrite(path, many, photometric="minisblack", planarconfig="contig")
    else:
        cv2.imwrite(str(path), {"1 8": grey, "1 16": deep[..., 0], "3 16": deep}[kind.split(" bit")[0]])
    return path


@pytest.fixture
def prepare(shapes_root, tmp_path, monkeypatch):
    """Writes four training and two held-out images of a kind, and a config for them."""

    def prepare_(kind: str, channels: int | None = None) -> tuple[Path, Path]:
        root = Path(shutil.copytree(shapes_root, tmp_path / "data"))
        for split, number in ("train", 4), ("val", 2):
            file = root / "annotations" / f"{split}.json"
            coco = json.loads(file.read_text())
            coco["images"] = coco["images"][:number]
            for image in coco["images"]:
                path = root / split / image["file_name"]
                image["file_name"] = write(path, cv2.imread(str(path)), kind).name
            kept = {image["id"] for image in coco["images"]}
            coco["annotations"] = [ann for ann in coco["annotations"] if ann["image_id"] in kept]
            file.write_text(json.dumps(coco))
        monkeypatch.setenv("SHAPES_ROOT", str(root))
        config = tmp_path / "config.py"
        settings = dict(channels=channels or int(kind[0]), mean=127.0 if " 8 " in kind else 2000.0)
        settings["color_type"] = "grayscale" if kind.endswith("grayscale") else "unchanged"
        base = REPO / "tests" / "tiny_ddetr.py"
        config.write_text(CONFIG.format(base=base, name=tmp_path.name, **settings))
        return config, root

    return prepare_


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["1 8 bit", "1 8 bit grayscale", "1 16 bit", "3 16 bit", "6 tiff", "6 npy"])
def test_audit_training_test_inference_and_pictures(kind, prepare, tmp_path, capsys):
    def run(tool: str, *args: str | Path) -> None:
        assert not TOOLS[tool](list(map(str, args)))

    config, root = prepare(kind)
    run("check_dataset", config, "--out-dir", tmp_path / "report")
    assert "can train" in capsys.readouterr().out
    run("train", config, "--work-dir", tmp_path)
    weights, results = tmp_path / "epoch_1.pth", tmp_path / "results.pkl"
    run("test", config, weights, "--out", results, "--show-dir", "shown", "--work-dir", tmp_path)
    run(
        "infer",
        root / "val",
        config,
        weights,
        "--score-thr",
        0,
        "--device=cpu",
        "--out-dir",
        tmp_path / "out",
    )
    run("draw_predictions", config, results, tmp_path / "sheet.png")
    run("analysis_tools/browse_dataset", config, "--output-dir", tmp_path / "browse")

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


def test_a_training_refuses_deep_images_before_its_first_iteration(prepare, tmp_path, one_line_error):
    _, root = prepare("1 16 bit")
    config = REPO / "tests" / "tiny_ddetr.py"
    options = ["--cfg-options", f"experiment_name={tmp_path.name}", f"visualizer.name={tmp_path.name}"]
    error = one_line_error(TOOLS["train"], config, "--work-dir", tmp_path, *options)
    assert f"image {root}/train/000001.png holds uint16 from" in error and "color_type='unchanged'" in error


def test_a_training_refuses_other_channels_before_its_first_iteration(prepare, tmp_path, one_line_error):
    config, root = prepare("6 npy", channels=1)
    error = one_line_error(TOOLS["train"], config, "--work-dir", tmp_path)
    assert f"image {root}/train/000001.npy has 6 channels, but the model takes 1" in error
    assert not list(tmp_path.glob("*.pth"))


def test_the_audit_finds_both(prepare, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logging, "raiseExceptions", False)

    def audit(config: Path) -> str:
        with pytest.raises(SystemExit):
            TOOLS["check_dataset"]([str(config), "--split", "train", "--out-dir", str(tmp_path / "report")])
        return capsys.readouterr().out

    config, root = prepare("6 npy", channels=1)
    assert "000001.npy has 6 channels, the model takes 1" in audit(config)
    assert "000001.npy holds uint16 from" in audit(REPO / "tests" / "tiny_ddetr.py")
