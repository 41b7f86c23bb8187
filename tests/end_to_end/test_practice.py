"""What docs/training.md shows: each by its config."""

import pickle
import resource
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from projects.reliable_runner.files.checkpoint_file import read_checkpoint

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"

pytestmark = pytest.mark.usefixtures("small_run")


def test_stops_early_and_keeps_the_best(tool, heir, scalars, tmp_path):
    """A learning rate of zero never makes it better; the count goes on in a resumed run."""
    config = heir(
        """
custom_hooks = [
    dict(type="ValLossHook"),
    dict(type="EarlyStoppingHook", monitor="coco/bbox_mAP", patience=2),
]
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP", rule="greater", max_keep_ckpts=1))
optim_wrapper = dict(optimizer=dict(lr=0.0))
model = dict(backbone=dict(norm_eval=True))
"""
    )
    work_dir = tmp_path / "run"
    tool("train", config, "--work-dir", work_dir, **{"train_cfg.max_epochs": 2})
    for epochs in 9, 8:  # a run that has stopped early does not go on by itself
        tool("train", config, "--work-dir", work_dir, "--resume", **{"train_cfg.max_epochs": epochs})
    found = scalars(work_dir, "coco/bbox_mAP")
    assert [line["step"] for line in found] == [1, 2, 3]
    names = {"val/loss", "val/loss_cls", "val/loss_bbox", "val/loss_iou"}
    assert names <= found[0].keys()
    assert found[0]["val/loss"] == found[2]["val/loss"]
    (log,) = [text for text in work_dir.glob("*/*.log") if "[3][4/4]" in text.read_text()]
    assert "Epoch(val) [3][4/4]    coco/bbox_mAP: " in log.read_text()
    assert f"val/loss: {found[2]['val/loss']:.4f}" in log.read_text()
    assert sorted(path.name for path in work_dir.glob("*.pth")) == [
        "best_coco_bbox_mAP_epoch_1.pth",
        "epoch_3.pth",
    ]
    noted = read_checkpoint(work_dir / "epoch_3.pth")["message_hub"]["runtime_info"]
    assert noted["best_score"] == found[0]["coco/bbox_mAP"]
    assert noted["early_stopping"] == ["coco/bbox_mAP", noted["best_score"], 2]


def test_averaged_weights_are_validated_saved_and_tested(tool, heir, scalars, tmp_path):
    ema, loss = 'dict(type="EMAHook", momentum=0.5)', 'dict(type="ValLossHook")'
    once, work_dir = "train_cfg = dict(max_epochs=1)\n", tmp_path / "run"
    with_hook = heir(f"{once}custom_hooks = [{ema}, {loss}]", "with")
    without = heir(f"{once}custom_hooks = [{loss}]", "without")
    tool("train", with_hook, "--work-dir", work_dir)
    checkpoint = read_checkpoint(work_dir / "epoch_1.pth")
    averaged, last = checkpoint["state_dict"], checkpoint["ema_state_dict"]
    assert last["steps"] == 4
    assert any(not torch.equal(averaged[key], last[f"module.{key}"]) for key in averaged)

    # A run that starts from the file alone validates the same weights, with and without the hook.
    (validated,) = scalars(work_dir, "coco/bbox_mAP")
    frozen = {"load_from": work_dir / "epoch_1.pth", "optim_wrapper.optimizer.lr": 0.0}
    frozen |= {"optim_wrapper.optimizer.weight_decay": 0.0, "model.backbone.norm_eval": True}
    tool("train", without, "--work-dir", tmp_path / "again", **frozen)
    assert scalars(tmp_path / "again", "coco/bbox_mAP")[0]["val/loss"] == validated["val/loss"]
    assert torch.isfinite(torch.tensor(validated["val/loss"]))

    predictions = []
    for config in with_hook, without:
        out = config.with_suffix(".pkl")
        tool("test", config, work_dir / "epoch_1.pth", "--out", out, "--work-dir", tmp_path / "test")
        predictions.append(pickle.loads(out.read_bytes()))
    for ours, theirs in zip(*predictions, strict=True):
        for key in ("scores", "bboxes", "labels"):
            assert torch.equal(ours["pred_instances"][key], theirs["pred_instances"][key])


def test_stops_with_one_line_where_the_disk_is_full(tmp_path, one_line_error, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    error = one_line_error("train", CONFIG, "--work-dir", tmp_path)
    assert f"{tmp_path}: 0.00 MB are free, a checkpoint takes about" in error
    assert not list(tmp_path.glob("*.pth"))


def test_a_disk_that_fills_leaves_the_checkpoint_before(tool, tmp_path, one_line_error):
    """The limit on the size of a file stands for a full disk."""
    run, short = (CONFIG, "--work-dir", tmp_path), {"default_hooks.checkpoint.max_keep_ckpts": 1}
    tool("train", *run, **short, **{"train_cfg.max_epochs": 1})
    (tmp_path / "epoch_1.pth.99.unfinished").touch()
    size = (tmp_path / "epoch_1.pth").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        error = one_line_error("train", *run, "--resume", **short, **{"train_cfg.max_epochs": 2})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{tmp_path}/epoch_2.pth: " in error
    assert "can't be written (File too large)" in error
    assert not list(tmp_path.glob("*.unfinished"))
    note = (tmp_path / "last_checkpoint").read_text()
    assert note == str(tmp_path / "epoch_1.pth")
    assert read_checkpoint(note)["meta"]["epoch"] == 1

    # Another optimizer is refused by name.
    other = {"optim_wrapper.optimizer.type": "SGD"}
    error = one_line_error("train", *run, "--resume", "--resume-schedule", "config", **other)
    assert f"{note}: a run can't be resumed from this checkpoint: its optimizer has " in error
    assert "paramwise_cfg" in error
