"""The example of detection without torch resizes as the test pipeline does."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from mmcv.transforms import Compose
from mmengine.registry import init_default_scope

DEMO = Path(__file__).resolve().parents[3] / "demo" / "onnx_detect.py"
LOAD, PACK = dict(type="LoadImageFromFile"), dict(type="PackDetInputs")


@pytest.mark.parametrize(
    "resize",
    [
        [],
        [dict(type="Resize", scale_factor=1.0)],
        [dict(type="Resize", scale_factor=0.7)],
        [dict(type="Resize", scale_factor=0.7, keep_ratio=True)],
        [dict(type="Resize", scale=(96, 64))],
        [dict(type="Resize", scale=(133, 80), keep_ratio=True)],
    ],
)
def test_finds_the_size_that_the_pipeline_makes(resize):
    init_default_scope("mmdet")
    for width, height in ((101, 75), (33, 200), (128, 128)):
        made = Compose(resize)(dict(img=np.zeros((height, width, 3), np.uint8)))["img"].shape[1::-1]
        assert runpy.run_path(str(DEMO))["resized"]((width, height), [LOAD, *resize, PACK]) == made


def test_refuses_steps_that_it_does_not_know():
    with pytest.raises(SystemExit, match="steps that this example does not know: DETRResize"):
        runpy.run_path(str(DEMO))["resized"]((1, 1), [LOAD, dict(type="DETRResize", scale=(8, 8)), PACK])


def test_says_that_a_file_is_no_detector(tmp_path):
    other = tmp_path / "other.onnx"
    other.write_bytes(b"no graph")
    with pytest.raises(SystemExit, match=f"{other}: this is no file of export.py"):
        runpy.run_path(str(DEMO))["detect"](str(other), None)
