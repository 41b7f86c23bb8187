import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

REPO = Path(__file__).resolve().parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"

pytestmark = pytest.mark.usefixtures("small_run")


def test_trains_in_bfloat16_and_resumes_where_it_stopped(tool, tmp_path, scalars):
    tool("train", CONFIG, "--work-dir", tmp_path, "--amp", "bfloat16", **{"train_cfg.max_epochs": 1})
    assert [line["iter"] for line in scalars(tmp_path, "loss")] == [1, 2, 3, 4]
    assert (tmp_path / "epoch_1.pth").exists()
    assert Config.fromfile(tmp_path / "tiny_ddetr.py").optim_wrapper.dtype == "bfloat16"

    moved = tmp_path.rename(tmp_path.with_name(f"{tmp_path.name}_moved"))
    args = ["--work-dir", moved, "--amp", "bfloat16", "--resume"]
    tool("train", CONFIG, *args, **{"train_cfg.max_epochs": 2})
    assert [line["iter"] for line in scalars(moved, "loss")][-4:] == [5, 6, 7, 8]
    assert (moved / "last_checkpoint").read_text() == str(moved / "epoch_2.pth")


def test_scales_the_learning_rate_to_the_batch_size(tool, tmp_path, scalars):
    tool("train", CONFIG, "--work-dir", tmp_path, "--auto-scale-lr", **{"train_cfg.max_epochs": 1})
    assert scalars(tmp_path, "loss")[0]["lr"] == 1e-3 * 2 / 4


def test_names_the_config_and_line_that_is_wrong(tmp_path, one_line_error):
    wrong, heir = tmp_path / "wrong.py", tmp_path / "heir.py"
    heir.write_text("_base_ = 'wrong.py'\nx = 1\n")

    assert f"{wrong}: there is no such config file" in one_line_error("train", wrong)
    assert f"{wrong}: FileNotFoundError" in one_line_error("train", heir)
    for text, named in (
        ("model = dict(\n  a=1,\n  b = = 2)\n", "line 3: SyntaxError: invalid"),
        ("a = 1\nb = c\n", "line 2: NameError: name 'c'"),
    ):
        wrong.write_text(text)
        for config in (wrong, heir):
            assert f"{wrong}, {named}" in one_line_error("train", config)


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (["--work-dir", "{}/file/run"], "{}/file/run"),
        (["--resume", "{}/epoch_9.pth"], "{}/epoch_9.pth"),
        (["--resume", "{}/weights.pth"], "{}/weights.pth"),
        (["--launcher", "pytorch"], "tools/dist_train.sh"),
        (["--auto-scale-lr", "--cfg-options", "auto_scale_lr.base_batch_size=None"], "base_batch_size=N"),
        (["--cfg-options", "model.num_querys=5"], "'num_queries'"),
        (["--cfg-options", "model.bbox_head.num_classes=2"], "num_classes is 2"),
        (["--cfg-options", "train_dataloader.batch_sise=1"], "'batch_sise'; did you mean 'batch_size'"),
        (["--cfg-options", "randomness.sed=1"], "'sed'; did you mean 'seed'"),
        (["--cfg-options", "optim_wrapper.clip_grad.max_nrm=1"], "'max_nrm'; did you mean 'max_norm'"),
        (["--cfg-options", "train_dataloader.batch_size=0"], "batch_size=0"),
        (["--cfg-options", "optim_wrapper.accumulative_counts=0"], "_accumulative_counts"),
        (["--cfg-options", "train_cfg.val_interval=0"], "train_cfg.val_interval is 0"),
        (["--cfg-options", "val_evaluator.metric=mAP"], "builds the CocoMetric"),
        (["--cfg-options", "val_evaluator.metric=segm"], "'segm is not in results'"),
        (["--cfg-options", "default_hooks.checkpoint.intervall=1"], "did you mean 'interval'"),
        (["--cfg-options", "train_cfg.max_epochs=two"], "builds the EpochBasedTrainLoop: invalid literal"),
        (["--cfg-options", "optim_wrapper.optimizer.lr=abc"], "'str'"),
    ],
    ids=str,
)
def test_refuses_and_names(args, named, tmp_path, one_line_error, monkeypatch):
    (tmp_path / "file").touch()
    torch.save({"state_dict": {}}, tmp_path / "weights.pth")
    monkeypatch.delenv("RANK", raising=False)
    args = [arg.format(tmp_path) for arg in args]
    assert named.format(tmp_path) in one_line_error("train", CONFIG, "--work-dir", tmp_path, *args)


@pytest.mark.slow
def test_a_torn_image_is_named_also_by_a_worker(data, tmp_path, one_line_error):
    image = data / "train" / "000003.png"
    image.write_bytes(image.read_bytes()[:-500])
    workers = {"train_dataloader.num_workers": 2}
    error = one_line_error("train", CONFIG, "--work-dir", tmp_path, **workers)
    assert error.startswith(f"error: image {image} cannot be decoded, it is cut short")


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_annotation_file_is_named_before_training(split, data, tmp_path, one_line_error):
    path = data / "annotations" / f"{split}.json"
    path.unlink()
    error = one_line_error("train", CONFIG, "--work-dir", tmp_path)
    assert f"annotation file {path} does not exist" in error
    assert not list(tmp_path.glob("*.pth"))


@pytest.mark.parametrize("two_stage", [False, True])
def test_images_without_objects_train(two_stage, data, tool, tmp_path, scalars):
    """A batch, or a few, without any object."""
    path = data / "annotations" / "train.json"
    coco = json.loads(path.read_text())
    last = coco["images"][-1]["id"]
    coco["annotations"] = [ann for ann in coco["annotations"] if ann["image_id"] == last]
    path.write_text(json.dumps(coco))
    options = {
        "train_dataloader.dataset.filter_cfg.filter_empty_gt": False,
        "model.as_two_stage": two_stage,
        "train_cfg.max_epochs": 1,
    }
    tool("train", CONFIG, "--work-dir", tmp_path, **options)
    lines = scalars(tmp_path, "loss")
    assert len(lines) == 4
    assert all(math.isfinite(value) for line in lines for value in line.values())


def test_runs_by_path_from_any_folder(tmp_path):
    tool = [sys.executable, REPO / "tools" / "train.py", "nothing.py"]
    done = subprocess.run(tool, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "error: nothing.py: there is no such config file\n"
