"""A checkpoint by its name, its address or another code base's file, wherever one is asked for."""

import json
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config

from projects.checkpoint_conversion.conversion import convert
from projects.deformable_detr.registry import MODELS, SCOPE
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files import checkpoint_file, model_index
from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from projects.reliable_runner.inference import inference_detector, init_detector

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"


@pytest.fixture
def published(web, small_run, monkeypatch) -> Path:
    """The tiny model, published as "tiny" in the names of the official code, its neck with biases."""
    cfg = Config.fromfile(CONFIG)
    cfg.model.neck.bias = True
    torch.manual_seed(0)
    model = MODELS.build(dict(cfg.model, _scope_=SCOPE))
    model.init_weights()
    for convolution in model.neck.convs:
        torch.nn.init.normal_(convolution.conv.bias)
    torch.nn.init.normal_(model.level_embed)
    weights, _ = convert(model.state_dict(), to="official")
    folder, address = web
    torch.save(dict(model=weights, epoch=50), folder / "tiny.pth")
    digest = sha256((folder / "tiny.pth").read_bytes()).hexdigest()[:8]
    row = model_index.PublishedModel("tiny", str(CONFIG), f"{address}/tiny.pth", digest, 1, "us", "", 0.0)
    monkeypatch.setitem(model_index.published_models(), "tiny", row)
    return folder / "tiny.pth"


def test_every_way_gives_the_same_detector(published, tool, shapes_root, tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(checkpoint_file, "print_log", lambda message, **kwargs: told.append(message))
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    address, wrapped = model_index.published_models()["tiny"].weights, tmp_path / "wrapped.pth"
    torch.save({"state_dict": torch.load(published)["model"]}, wrapped)  # by a trainer of somebody's own
    detectors = [
        init_detector("tiny", pretrained=True, device="cpu"),
        *(
            init_detector(str(CONFIG), checkpoint, "cpu")
            for checkpoint in (published, address, "tiny", wrapped)
        ),
    ]
    first, *others = [inference_detector(detector, image).pred_instances for detector in detectors]
    assert len(first) == 10
    for other in others:
        assert all(torch.equal(first[key], other[key]) for key in ("bboxes", "scores", "labels"))
    assert detectors[0].neck.convs[0].conv.bias.abs().sum() > 0
    said = "fundamentalvision/Deformable-DETR or IDEA-Research/DINO, base; for it model.neck.bias=True"
    assert told[1] == f"{published}: converted from {said}"

    tool("infer", shapes_root / "val", "--model", "tiny", "--out-dir", tmp_path / "out", "--score-thr", "0")
    results = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert len(results["images"]) == 4 and len(results["annotations"]) == 40


def test_tools_test_and_train(published, tool, tmp_path, capsys):
    tool("test", "tiny", "tiny", "--work-dir", tmp_path / "test")
    assert "coco/bbox_mAP" in capsys.readouterr().out
    options = dict.fromkeys(("val_cfg", "val_dataloader", "val_evaluator"))
    options |= {"load_from": "tiny", "train_cfg.max_epochs": 1, "optim_wrapper.optimizer.lr": 0.0}
    tool("train", CONFIG, "--work-dir", tmp_path / "train", **options)
    trained = torch.load(tmp_path / "train" / "epoch_1.pth", weights_only=False)["state_dict"]
    expected, _ = convert(torch.load(published)["model"])
    assert torch.equal(trained["neck.convs.0.conv.bias"], expected["neck.convs.0.conv.bias"])


def test_what_is_trained_from_converted_weights_wants_the_same_settings(published, tool, tmp_path, capsys):
    """The config does not know them; the checkpoint does, as do those that are trained or made from it."""
    options = {"load_from": "tiny", "train_cfg.max_epochs": 1}
    tool("train", CONFIG, "--work-dir", tmp_path / "run", **options)
    first = tmp_path / "run" / "epoch_1.pth"
    assert read_checkpoint(first)["meta"]["cfg_options"] == {"model.neck.bias": True}
    tool("test", CONFIG, first, "--work-dir", tmp_path / "test")
    assert "coco/bbox_mAP" in capsys.readouterr().out
    tool("train", CONFIG, "--work-dir", tmp_path / "run", "--resume", **{"train_cfg.max_epochs": 2})
    tool("publish_model", CONFIG, tmp_path / "run" / "epoch_2.pth", "--out", tmp_path / "mine.pth")
    (handed_on,) = tmp_path.glob("mine-*.pth")
    tool("publish_model", CONFIG, handed_on, "--out", tmp_path / "again.safetensors")
    (again,) = tmp_path.glob("again-*")
    assert init_detector(str(CONFIG), again, "cpu").neck.convs[0].conv.bias is not None
    written = tmp_path / "run" / CONFIG.name
    assert init_detector(str(written), again, "cpu").neck.convs[0].conv.bias is not None


def test_a_wish_of_the_user_counts(published):
    with pytest.raises(InputError, match="neck.convs.0.conv.bias is unknown to the model"):
        init_detector("tiny", pretrained=True, device="cpu", cfg_options={"model.neck.bias": False})


@pytest.mark.parametrize("name", ["ddetr_r50_50", "tinny"])
def test_an_unknown_name_is_told_with_its_neighbours(published, one_line_error, tmp_path, name):
    assert "did you mean" in one_line_error("infer", tmp_path, "--model", name)
    error = one_line_error("test", CONFIG, name, "--work-dir", tmp_path)
    assert "there is no such checkpoint file" in error and "did you mean" in error


def test_a_file_that_is_not_the_published_one(published, one_line_error, tmp_path):
    published.write_bytes(b"<!DOCTYPE html> log in first")
    assert "what came is a web page" in one_line_error("test", CONFIG, "tiny", "--work-dir", tmp_path)
