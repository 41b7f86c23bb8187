"""The pictures show the images after augmentation, and the boxes with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"
TOOL = "analysis_tools/browse_dataset"
ORANGE = np.array([255, 127, 14])


@pytest.fixture
def data(tmp_path, small_run, monkeypatch) -> Path:
    """Two grey images of 100 x 80; the first has a square in its upper left."""
    root = tmp_path / "data"
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name in "ab":
        Image.new("RGB", (100, 80), (90, 90, 90)).save(root / "train" / f"{name}.png")
    images = [dict(id=i, file_name=f"{name}.png", width=100, height=80) for i, name in enumerate("ab")]
    box = dict(id=1, image_id=0, category_id=2, bbox=[10, 20, 30, 20], area=600, iscrowd=0)
    names = enumerate(("circle", "square", "triangle"), 1)
    contents = dict(images=images, annotations=[box], categories=[dict(id=i, name=name) for i, name in names])
    (root / "annotations" / "train.json").write_text(json.dumps(contents))
    monkeypatch.setenv("SHAPES_ROOT", str(root))
    return root


def test_boxes_follow_flip_and_resize(data, tool, heir, tmp_path, capsys):
    """Mirrored, the box from 10 to 40 of 100 goes from 60 to 90, and twice as far in twice the size."""
    config = heir(
        "visualizer = dict(line_width=2, alpha=1.0)\n"
        "pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),\n"
        "    dict(type='RandomFlip', prob=1.0), dict(type='Resize', scale=(200, 160)),\n"
        "    dict(type='PackDetInputs')]\n"
        "train_dataloader = dict(dataset=dict(pipeline=pipeline))"
    )
    out = tmp_path / "out"
    tool(TOOL, config, "--output-dir", out, "--not-show")
    assert "2 of 2 images drawn" in capsys.readouterr().out
    with_box = np.asarray(Image.open(out / "000000_a.png")).astype(int)
    assert with_box.shape == (160, 200, 3)
    rows, columns = np.nonzero(np.abs(with_box - ORANGE).max(-1) < 10)
    assert np.allclose([columns.min(), columns.max(), rows.min(), rows.max()], [120, 180, 40, 80], atol=2)
    assert (np.asarray(Image.open(out / "000001_b.png")) == 90).all()


def test_as_many_as_wanted(data, tool, tmp_path):
    tool(TOOL, CONFIG, "--output-dir", tmp_path / "out", "--num", "1")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["000000_a.png"]


def test_mistakes_are_named(data, heir, one_line_error):
    assert "has no train_dataloader" in one_line_error(TOOL, heir("train_dataloader = None"))
    (data / "annotations" / "train.json").unlink()
    assert "train.json does not exist" in one_line_error(TOOL, CONFIG)
