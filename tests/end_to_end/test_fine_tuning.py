"""Starting from what other trainings have saved."""

from pathlib import Path

import pytest
import torch

CONFIG = Path(__file__).resolve().parents[1] / "tiny_ddetr.py"
ONE_EPOCH = {"train_cfg.max_epochs": 1, "train_cfg.val_interval": 2, "train_dataloader.batch_size": 8}


@pytest.fixture
def start(tool, tmp_path):
    """The weights that a training starts from, as it saves them after an epoch with learning rate 0."""

    def run(config: Path = CONFIG, **options) -> tuple[dict, str]:
        work_dir = tmp_path / f"start{len(list(tmp_path.iterdir()))}"
        options |= ONE_EPOCH | {"optim_wrapper.optimizer.lr": 0, "randomness.seed": 7}
        tool("train", config, "--work-dir", work_dir, **options)
        log = "".join(path.read_text() for path in work_dir.glob("*/*.log"))
        return torch.load(work_dir / "epoch_1.pth", weights_only=False)["state_dict"], log

    return run


@pytest.mark.parametrize(
    ("variant", "num_branches"),
    [({}, 4), ({"model.with_box_refine": True, "model.as_two_stage": True}, 6)],
    ids=["base", "two_stage"],
)
def test_other_classes_and_queries(tool, start, tmp_path, variant, num_branches):
    """What depends on them is as without ``load_from``, all else is as in the file, bit by bit."""
    options = variant | {"model.decoder.num_layers": 2}
    tool("train", CONFIG, "--work-dir", tmp_path / "first", **ONE_EPOCH, **options)
    path = tmp_path / "first" / "epoch_1.pth"
    file = torch.load(path, weights_only=False)["state_dict"]
    loaders = ("train_dataloader", "val_dataloader")
    options |= {f"{loader}.dataset.metainfo.classes": "[circle,square]" for loader in loaders}
    options |= {"model.bbox_head.num_classes": 2, "model.num_queries": 7}
    fresh, _ = start(**options)
    adapted, log = start(**options, load_from=path)

    others = {key for key in file if ".cls_branches." in key}
    assert len(others) == num_branches
    if not variant:
        others.add("query_embedding.weight")
    assert adapted.keys() == file.keys()
    for key, value in adapted.items():
        source = fresh if key in others else file
        assert torch.equal(value, source[key]), key
    assert any(not torch.equal(fresh[key], file[key]) for key in file.keys() - others)

    report = log[log.index(f"{path}: ") :]
    assert f"{len(others)} of the model's {len(file)} tensors are re-initialised" in report
    assert "all others are loaded exactly" in report
    assert "classes of the checkpoint: ['circle', 'square', 'triangle']" in report
    assert "classes of this run: ['circle', 'square']" in report
    for key in others:
        assert f"    {key} {tuple(file[key].shape)} -> {tuple(adapted[key].shape)}\n" in report
    assert "do not match" not in log  # mmengine has nothing left to complain about


def test_weights_of_a_run_with_averaging_and_optimizer(tool, start, tmp_path, heir):
    """Training starts from the averaged weights, which EMAHook saves as the weights, and nothing else."""
    config = heir("custom_hooks = [dict(type='EMAHook', priority=49)]")
    tool("train", config, "--work-dir", tmp_path / "first", **ONE_EPOCH)
    path = tmp_path / "first" / "epoch_1.pth"
    contents = torch.load(path, weights_only=False)
    assert contents["ema_state_dict"] and contents["optimizer"]["state"]

    adapted, log = start(config, **{"load_from": path, "model.num_queries": 7})
    for key, value in adapted.items():
        assert torch.equal(value, contents["state_dict"][key]) == (key != "query_embedding.weight")
    assert "query_embedding.weight (10, 64) -> (7, 64)" in log
    assert "do not match" not in log
