"""Export, and the tools that take what it wrote."""

import json
import pickle
import runpy
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from projects.deployment import onnx_file
from projects.deployment.exported_detector import ExportedDetector
from projects.reliable_runner.inference import inference_detector, init_detector
from tools.analysis_tools import benchmark

REPO = Path(__file__).resolve().parents[3]

pytestmark = pytest.mark.usefixtures("small_run")


@pytest.fixture
def config(heir) -> Path:
    return heir("model = dict(with_box_refine=True, as_two_stage=True)")


@pytest.fixture
def weights(config, tmp_path) -> Path:
    """Those of a detector whose scores differ from query to query."""
    torch.manual_seed(0)
    detector = init_detector(config, device="cpu")
    for branch in detector.bbox_head.cls_branches:
        torch.nn.init.normal_(branch.weight, std=0.5)
    meta = dict(dataset_meta=detector.dataset_meta)
    torch.save(dict(meta=meta, state_dict=detector.state_dict()), tmp_path / "epoch_1.pth")
    return tmp_path / "epoch_1.pth"


@pytest.mark.slow
def test_the_file_serves_in_place_of_the_checkpoint(
    tool, config, weights, tmp_path, shapes_root, capsys, one_line_error, heir, monkeypatch
):
    tool("deployment/export", config, weights, "--to", "onnx")
    path = weights.with_suffix(".onnx")
    printed = capsys.readouterr().out
    assert f"{path}: " in printed
    assert printed.count("the same") == 6

    image, found = shapes_root / "val" / "000001.png", []
    for model, out in (([config, weights, "--device", "cpu"], "torch"), ([path], "onnx")):
        tool("infer", image, *model, "--out-dir", tmp_path / out, "--score-thr", 0)
        found.append(json.loads((tmp_path / out / "predictions.json").read_text()))
    ours, theirs = found
    assert len(ours["annotations"]) == 10
    assert ours["images"] == theirs["images"] and ours["categories"] == theirs["categories"]
    for a, b in zip(ours["annotations"], theirs["annotations"], strict=True):
        assert a["category_id"] == b["category_id"]
        np.testing.assert_allclose([*a["bbox"], a["score"]], [*b["bbox"], b["score"]], atol=1e-3)
    assert (tmp_path / "onnx" / "vis" / "000001.png").is_file()

    scores = []
    for model in (weights, path):
        tool("test", config, model, "--work-dir", tmp_path / "test", "--out", tmp_path / "found.pkl")
        results = pickle.loads((tmp_path / "found.pkl").read_bytes())
        scores.append(torch.stack([result["pred_instances"]["scores"] for result in results]))
    torch.testing.assert_close(*scores, atol=1e-4, rtol=1e-4)

    detect = runpy.run_path(str(REPO / "demo" / "onnx_detect.py"))["detect"]
    found = detect(str(path), Image.open(image))
    expected = inference_detector(init_detector(config, weights, "cpu"), image).pred_instances
    np.testing.assert_allclose([score for _, score, _ in found], expected.scores, atol=1e-4)
    np.testing.assert_allclose([box for _, _, box in found], expected.bboxes, atol=1e-2)

    # Another resizing than that of the config which was traced.
    model = onnx.load(path)
    (text,) = (entry for entry in model.metadata_props if entry.key == "config")
    text.value = text.value.replace("'scale': (64, 64), 'keep_ratio': True", "'scale': (96, 64)")
    onnx.save(model, tmp_path / "stretched.onnx")
    found = detect(str(tmp_path / "stretched.onnx"), Image.open(image))
    expected = inference_detector(ExportedDetector(tmp_path / "stretched.onnx"), image).pred_instances
    np.testing.assert_allclose([box for _, _, box in found], expected.bboxes, atol=0.1)

    options = ["--shape", "64", "96", "--max-iter", "2", "--num-warmup", "1", "--threads", "1"]
    benchmark.main([str(path), *options])
    assert f"{path} | 1 | " in capsys.readouterr().out

    other = heir("metainfo = dict(classes=('circle', 'square', 'cat'))\n", "other", config)
    error = one_line_error("test", other, path, "--work-dir", tmp_path)
    assert "was exported with the classes ['circle', 'square', 'triangle']" in error

    # A file that differs from its checkpoint is told.
    contents = torch.load(weights)
    contents["state_dict"]["backbone.conv1.weight"] += 1
    torch.save(contents, tmp_path / "others.pth")
    monkeypatch.setattr(onnx_file, "write", lambda graph, target, *_: shutil.copy(path, target))
    error = one_line_error("deployment/export", config, tmp_path / "others.pth", "--to", "onnx")
    assert "differs from PyTorch by more than 0.0001: image 1" in error


@pytest.mark.parametrize(
    "options",
    [["--device", "cuda:0"], ["--cfg-options", "model.test_cfg.max_per_img=1"], ["--model", "dino_r50_12e"]],
)
def test_detecting_with_a_file_refuses_options_of_checkpoints(tool, options, capsys):
    with pytest.raises(SystemExit):
        tool("infer", "photo.jpg", "a b.onnx", *options)
    assert f"error: {options[0]}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compile"], "--compile: a b.onnx is compiled"),
        (["--cfg-options", "model.test_cfg.max_per_img=1"], "give model.test_cfg.max_per_img to export.py"),
    ],
)
def test_testing_a_file_refuses_options_of_checkpoints(one_line_error, config, options, message):
    assert message in one_line_error("test", config, "a b.onnx", *options)


@pytest.mark.slow
def test_says_why_torch_refuses(config, weights, one_line_error):
    options = {"model.test_cfg.max_per_img": "ten"}
    error = one_line_error("deployment/export", config, weights, "--to", "onnx", **options)
    assert "\x1b" not in error and "step 1/3" not in error and "(ResNet as its backbone): " in error


def test_without_test_data_tells_of_other_images(config, weights, one_line_error):
    options = dict(data_root="/nowhere/")
    error = one_line_error("deployment/export", config, weights, "--to", "onnx", **options)
    assert "/nowhere/annotations/val.json does not exist" in error and error.endswith("give --images")


def test_refuses_weights_of_another_config(config, one_line_error, checkpoint):
    assert str(checkpoint) in one_line_error("deployment/export", config, checkpoint, "--to", "onnx")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--to", "onnx", "--fp16"), "--fp16 is for --to openvino"),
        (("--to", "pt2", "--out", "a.onnx"), "ends with .pt2"),
    ],
)
def test_refuses_options_that_do_not_fit(tool, options, message, capsys):
    with pytest.raises(SystemExit):
        tool("deployment/export", "config", "checkpoint", *options)
    assert message in capsys.readouterr().err
