"""A model whose ops are not installed stops every tool at once."""

import importlib.util
import runpy
from pathlib import Path

import pytest
from mmengine.config import Config

REPO = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    getattr(importlib.util.find_spec("mmcv._ext"), "origin", None) is not None,
    reason="mmcv is installed with its compiled ops",
)


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        ("mask_rcnn_dat_t_1x", ["roi_layers.0 (and 7 more parts) needs RoIAlign"]),
    ],
)
@pytest.mark.parametrize("tool", ["train", "test", "infer"])
def test_mmdets_detectors_are_refused_before_anything_runs(
    name, reasons, tool, tmp_path, one_line_error, monkeypatch
):
    """There are neither images nor weights: nothing has asked for them when the run stops."""
    monkeypatch.setattr(Config, "pretty_text", "")
    config = REPO / "configs" / "dat" / f"{name}.py"
    arguments = {
        "train": [config, "--work-dir", tmp_path],
        "test": [config, tmp_path / "none.pth", "--work-dir", tmp_path],
        "infer": [REPO / "docs" / "images" / "bccd.jpg", config, tmp_path / "none.pth"],
    }[tool]
    main = runpy.run_path(str(REPO / "tools" / f"{tool}.py"))["main"]
    options = [f"experiment_name={tmp_path.name}", f"visualizer.name={tmp_path.name}"]
    message = one_line_error(main, *arguments, "--cfg-options", *options)
    for part in (
        f"{name}.py: a compiled op of mmcv is missing: model.",
        *reasons,
        "pip install mmcv",
    ):
        assert part in message
