"""Curves out of mmengine's logs."""

import importlib.util
import json
from pathlib import Path

import pytest

from projects.deformable_detr.errors import InputError

TOOL = Path(__file__).parents[2] / "tools" / "analysis_tools" / "analyze_logs.py"
spec = importlib.util.spec_from_file_location("analyze_logs", TOOL)
analyze_logs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(analyze_logs)


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "run" / "time" / "vis_data" / "scalars.json"
    path.parent.mkdir(parents=True)
    entries = [
        dict(loss=4.0, epoch=1, iter=1, step=1),
        dict(loss=2.0, epoch=1, iter=2, step=2),
        {"coco/bbox_mAP": 0.25, "step": 1},
        dict(loss=1.0, epoch=2, iter=3, step=3),
        {"coco/bbox_mAP": 0.5, "step": 2},
    ]
    path.write_text("\n".join(map(json.dumps, entries)))
    return path


def test_log_is_read_by_epoch(log):
    curves = analyze_logs.read_log(log)
    assert curves["loss"] == [(1, 4.0), (1, 2.0), (2, 1.0)]
    assert curves["bbox_mAP"] == [(1, 0.25), (2, 0.5)]


def test_curves_are_drawn(log, tmp_path):
    out = tmp_path / "curve.svg"
    analyze_logs.main(["plot_curve", str(log), "--keys", "loss", "bbox_mAP", "--out", str(out)])
    assert "<svg" in out.read_text()


def test_unknown_value_and_missing_log_are_named(log, tmp_path):
    with pytest.raises(InputError, match="'mAP'.*bbox_mAP"):
        analyze_logs.main(["plot_curve", str(log), "--keys", "mAP"])
    with pytest.raises(InputError, match="no such log"):
        analyze_logs.main(["plot_curve", str(tmp_path / "none.json")])
    with pytest.raises(InputError, match="2 curves, but there are 1"):
        analyze_logs.main(["plot_curve", str(log), "--legend", "a", "b"])
