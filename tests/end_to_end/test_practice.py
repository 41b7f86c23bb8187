"""What docs/training.md shows: each by its config."""

import json
import pickle
import resource
import runpy
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from projects.reliable_runner.files.checkpoint_file import read_checkpoint

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
train_main, run_test = (
    runpy.run_path(str(REPO / "tools" / tool))["main"] for tool in ("train.py", "test.py")
)

pytestmark = pytest.mark.usefixtures("small_run")


def command(config: Path, work_dir: Path, *args: str, **options) -> list[str]:
    """A command line; a name of its own for each run in this process."""
    name = f"{work_dir}_{options}"
    for character in "/'{}: ,[]()=":
        name = name.replace(character, "_")
    pairs = options | {"experiment_name": name, "visualizer.name": name}
    words = [f"{key}={value}" for key, value in pairs.items()]
    return [str(config), *args, "--work-dir", str(work_dir), "--cfg-options", *words]


def heir(folder: Path, text: str) -> Path:
    path = folder / "heir.py"
    path.write_text(f"_base_ = '{CONFIG}'\n{text}")
    return path


def validations(work_dir: Path) -> list[dict]:
    """What was logged of each validation."""
    lines = []
    for log in sorted(work_dir.glob("*/vis_data/scalars.json")):
        lines += map(json.loads, log.read_text().splitlines())
    return [line for line in lines if "coco/bbox_mAP" in line]


def test_stops_early_and_keeps_the_best(tmp_path):
    """A learning rate of zero never makes it better; the count goes on in a resumed run."""
    config = heir(
        tmp_path,
        """
custom_hooks = [
    dict(type="ValLossHook"),
    dict(type="EarlyStoppingHook", monitor="coco/bbox_mAP", patience=2),
]
default_hooks = dict(checkpoint=dict(save_best="coco/bbox_mAP", rule="greater", max_keep_ckpts=1))
optim_wrapper = dict(optimizer=dict(lr=0.0))
model = dict(backbone=dict(norm_eval=True))
""",
    )
    work_dir = tmp_path / "run"
    train_main(command(config, work_dir, **{"train_cfg.max_epochs": 2}))
    train_main(command(config, work_dir, "--resume", **{"train_cfg.max_epochs": 9}))
    # A run that has stopped early does not go on by itself.
    train_main(command(config, work_dir, "--resume", **{"train_cfg.max_epochs": 8}))
    found = validations(work_dir)
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


def test_averaged_weights_are_validated_saved_and_tested(tmp_path):
    ema = """
custom_hooks = [dict(type="EMAHook", momentum=0.5), dict(type="ValLossHook")]
train_cfg = dict(max_epochs=1)
"""
    config, work_dir = heir(tmp_path, ema), tmp_path / "run"
    train_main(command(config, work_dir))
    checkpoint = read_checkpoint(work_dir / "epoch_1.pth")
    averaged, last = checkpoint["state_dict"], checkpoint["ema_state_dict"]
    assert last["steps"] == 4
    assert any(not torch.equal(averaged[key], last[f"module.{key}"]) for key in averaged)

    # A run that starts from the file alone validates the same weights, with and without the hook.
    (validated,) = validations(work_dir)
    frozen = {"load_from": str(work_dir / "epoch_1.pth"), "optim_wrapper.optimizer.lr": 0.0}
    frozen |= {"optim_wrapper.optimizer.weight_decay": 0.0, "model.backbone.norm_eval": True}
    again = heir(tmp_path, ema.replace('dict(type="EMAHook", momentum=0.5), ', ""))
    train_main(command(again, tmp_path / "again", **frozen))
    assert validations(tmp_path / "again")[0]["val/loss"] == validated["val/loss"]
    assert torch.isfinite(torch.tensor(validated["val/loss"]))

    predictions = []
    for name, text in (("with", ema), ("without", "")):
        out = tmp_path / f"{name}.pkl"
        args = [str(work_dir / "epoch_1.pth"), "--out", str(out)]
        run_test(command(heir(tmp_path, text), tmp_path / name, *args))
        predictions.append(pickle.loads(out.read_bytes()))
    for ours, theirs in zip(*predictions, strict=True):
        for key in ("scores", "bboxes", "labels"):
            assert torch.equal(ours["pred_instances"][key], theirs["pred_instances"][key])


def test_stops_with_one_line_where_the_disk_is_full(tmp_path, one_line_error, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    error = one_line_error(train_main, *command(CONFIG, tmp_path))
    assert f"{tmp_path}: 0.00 MB are free, a checkpoint takes about" in error
    assert not list(tmp_path.glob("*.pth"))


def test_a_disk_that_fills_leaves_the_checkpoint_before(tmp_path, one_line_error):
    """The limit on the size of a file stands for a full disk."""
    short = {"train_cfg.max_epochs": 1, "default_hooks.checkpoint.max_keep_ckpts": 1}
    train_main(command(CONFIG, tmp_path, **short))
    (tmp_path / "epoch_1.pth.99.unfinished").touch()
    size = (tmp_path / "epoch_1.pth").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        longer = command(CONFIG, tmp_path, "--resume", **short | {"train_cfg.max_epochs": 2})
        error = one_line_error(train_main, *longer)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"{tmp_path}/epoch_2.pth: " in error
    assert "can't be written (File too large)" in error
    assert not list(tmp_path.glob("*.unfinished"))
    note = (tmp_path / "last_checkpoint").read_text()
    assert note == str(tmp_path / "epoch_1.pth")
    assert read_checkpoint(note)["meta"]["epoch"] == 1

    # Another optimizer, or other groups of its parameters, are refused by name.
    for option in (
        {"optim_wrapper.paramwise_cfg.custom_keys.backbone.lr_mult": 0.1},
        {"optim_wrapper.optimizer.type": "SGD"},
    ):
        for schedule in ("checkpoint", "config"):
            args = ["--resume", "--resume-schedule", schedule]
            error = one_line_error(train_main, *command(CONFIG, tmp_path, *args, **option))
            assert f"{note}: a run can't be resumed from this checkpoint: its optimizer has " in error
            assert "paramwise_cfg" in error
