"""A model whose ops are not installed stops every tool at once."""

import importlib.util
from pathlib import Path

import pytest
import torch

REPO = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    getattr(importlib.util.find_spec("mmcv._ext"), "origin", None) is not None,
    reason="mmcv is installed with its compiled ops",
)


@pytest.mark.parametrize(
    ("name", "part", "op"),
    [
        ("dat/mask_rcnn_dat_t_1x.py", "roi_layers.0 (and 7 more parts)", "needs RoIAlign"),
        ("ablations/ddetr_x101_dcn_50e_two_stage.py", "layer2.0.conv2 (and ", "DeformConv"),
    ],
)
@pytest.mark.parametrize("tool", ["train", "test", "infer"])
def test_they_are_refused_before_anything_runs(name, part, op, tool, tmp_path, one_line_error):
    """There are no images, and the weights are of no model: nothing has asked for them when the run stops."""
    config = REPO / "configs" / name
    torch.save({"state_dict": {}}, tmp_path / "none.pth")
    arguments = {
        "train": [config, "--work-dir", tmp_path],
        "test": [config, tmp_path / "none.pth", "--work-dir", tmp_path],
        "infer": [REPO / "docs" / "images" / "bccd.jpg", config, tmp_path / "none.pth"],
    }[tool]
    message = one_line_error(tool, *arguments)
    assert f"{config.name}: a compiled op of mmcv is missing: model." in message
    assert part in message and op in message and "pip install mmcv" in message
