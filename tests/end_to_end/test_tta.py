"""The test-time augmentation of the paper's last row, with the small model in place of the large one."""

import pickle
from pathlib import Path

import pytest
import torch
from mmdet.models.test_time_augs import det_tta
from mmengine.config import Config

REPO = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("small_run")


def test_views_of_each_image_are_merged(tmp_path, tool, untrained, monkeypatch):
    row = Config.fromfile(REPO / "configs" / "ablations" / "ddetr_x101_dcn_50e_two_stage_tta.py")
    cfg = Config.fromfile(REPO / "tests" / "tiny_ddetr.py")
    cfg.custom_hooks = row.custom_hooks
    pipeline = row.test_dataloader.dataset.pipeline
    resizes = pipeline[1].transforms[0]
    for resize, side in zip(resizes, (48, 56, 64), strict=True):
        resize.scale = (side, side)
    cfg.test_dataloader.dataset.pipeline = pipeline
    cfg.dump(tmp_path / "tta.py")

    # mmcv's non-maximum suppression is a compiled op; that of a single class is enough here.
    candidates = []

    def keep_best(boxes, scores, labels, nms_cfg):
        assert nms_cfg == dict(type="nms", iou_threshold=0.5)
        candidates.append(boxes)
        scores, order = scores.sort(descending=True)
        return torch.cat([boxes[order], scores[:, None]], 1), order

    monkeypatch.setattr(det_tta, "batched_nms", keep_best)
    out = tmp_path / "results.pkl"
    tool("test", tmp_path / "tta.py", untrained(), "--out", out, "--work-dir", tmp_path)

    assert len(candidates) == 4  # images
    for boxes in candidates:
        assert boxes.shape == (6 * 10, 4)  # three scales, flipped or not, of ten queries
        assert boxes.min() >= 0 and boxes.max() <= 64  # all in pixels of the original image
    for result in pickle.loads(out.read_bytes()):
        scores = result["pred_instances"]["scores"]
        assert len(scores) == 60 and (scores.diff() <= 0).all()
