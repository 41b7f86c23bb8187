"""The drawn data set and the sheet of detections."""

import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from projects.deformable_detr.registry import DATASETS
from projects.reliable_runner.errors import InputError

TOOLS = Path(__file__).parents[2] / "tools"
draw_shapes, draw_predictions = (
    SimpleNamespace(**runpy.run_path(str(TOOLS / f"{name}.py")))
    for name in ("dataset_converters/draw_shapes", "draw_predictions")
)


def test_same_seed_same_files(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        draw_shapes.draw_split(tmp_path / name, "train", num_images=2, size=48, seed=seed)
    files = {name: [p.read_bytes() for p in sorted((tmp_path / name).rglob("*.*"))] for name in "abc"}
    assert files["a"] == files["b"] != files["c"]


def test_boxes_hold_their_shape_exactly(tmp_path):
    """Without noise the pixels that differ from the background fill each box to its four sides."""
    canvas = Image.new("RGB", (40, 40))
    for name in draw_shapes.CLASSES:
        picture = canvas.copy()
        draw_shapes.draw_shape(draw_shapes.ImageDraw.Draw(picture), name, (5, 9, 20), (255, 255, 255))
        rows, columns = np.nonzero(np.asarray(picture)[..., 0])
        assert (columns.min(), rows.min()) == (5, 9)
        assert (columns.max() + 1, rows.max() + 1) == (25, 29)


def test_sheet_shows_detections_where_they_are(shapes_root, tmp_path):
    dataset = DATASETS.build(
        dict(
            type="CocoDataset",
            data_root=str(shapes_root),
            ann_file="annotations/val.json",
            data_prefix=dict(img="val/"),
            metainfo=dict(classes=draw_shapes.CLASSES),
            test_mode=True,
            pipeline=[],
        )
    )
    found = dict(
        bboxes=torch.tensor([[10.0, 20.0, 40.0, 50.0], [0.0, 0.0, 5.0, 5.0]]),
        scores=torch.tensor([0.9, 0.1]),
        labels=torch.tensor([1, 0]),
    )
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    results = [dict(img_id=x["img_id"], img_path=x["img_path"], pred_instances=found) for x in infos]
    out = tmp_path / "folder" / "sheet.svg"
    draw_predictions.draw_sheet(dataset, results, out, num_images=3, score_thr=0.5)
    svg = out.read_text()
    assert svg.count("0.90") == 3 and "0.10" not in svg  # the text is repeated as a comment


def test_missing_results_are_named(tmp_path):
    with pytest.raises(InputError, match="none.pkl"):
        draw_predictions.main(["config.py", str(tmp_path / "none.pkl"), "out.png"])
