"""A run resumes from the newest checkpoint that can be read, and says so if that is not the last one."""

import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.training.start import choose_start, latest_checkpoint


def save(path: Path, age: int, complete: bool = True) -> Path:
    """A checkpoint that is ``age`` seconds old; cut in half unless ``complete``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": {}, "meta": {}, "message_hub": {}, "optimizer": {}}, path)
    if not complete:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


@pytest.fixture
def run(tmp_path) -> Path:
    """A work_dir with three checkpoints; the newest is not the one with the highest number."""
    for name, age in (("epoch_1.pth", 9), ("epoch_2.pth", 3), ("epoch_3.pth", 6)):
        save(tmp_path / name, age)
    torch.save({"state_dict": {}}, tmp_path / "best_coco_bbox_mAP_epoch_2.pth")
    return tmp_path


def test_takes_the_one_that_was_noted(run):
    (run / "last_checkpoint").write_text(str(run / "epoch_1.pth"))
    assert latest_checkpoint(run, run) == (str(run / "epoch_1.pth"), "")
    moved = run.rename(run.with_name("moved"))
    assert latest_checkpoint(moved, moved) == (str(moved / "epoch_1.pth"), "")


@pytest.mark.parametrize(
    ("note", "why"),
    [
        (None, "last_checkpoint is not there"),
        ("", "last_checkpoint is empty"),
        ("/runs/epo", "/runs/epo: there is no such checkpoint file"),
        ("epoch_4.pth", "epoch_4.pth: the checkpoint is cut short"),
    ],
)
def test_takes_the_newest_that_can_be_read(run, note, why):
    save(run / "epoch_4.pth", age=0, complete=False)
    if note is not None:
        (run / "last_checkpoint").write_text(note)
    path, message = latest_checkpoint(run, run)
    assert path == str(run / "epoch_2.pth")
    assert why in message
    assert "the newest other checkpoint" in message
    assert message.endswith("epoch_2.pth")


def test_does_not_start_anew_where_nothing_can_be_read(run):
    for path in run.glob("epoch_*.pth"):
        save(path, age=0, complete=False)
    with pytest.raises(InputError) as error:
        latest_checkpoint(run, run)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{run}: no checkpoint that is there can be resumed:"
    assert sum("is cut short" in line for line in lines) == 3
    assert any("best_coco_bbox_mAP_epoch_2.pth: it lacks message_hub, meta" in x for x in lines)


def test_says_what_it_chose(run):
    def start(how: str | None = None, folder: Path = run, **config) -> tuple[str, Config]:
        cfg = Config(dict(work_dir=str(folder), resume=False, load_from=None) | config)
        return choose_start(cfg, how), cfg

    for how, config in (("auto", {}), (None, dict(resume=True))):
        message, cfg = start(how, **config)
        assert "last_checkpoint is not there" in message
        assert cfg.resume and cfg.load_from == str(run / "epoch_2.pth")
    message, cfg = start("other.pth")
    assert (message, cfg.resume, cfg.load_from) == ("", True, "other.pth")
    message, cfg = start()
    assert "checkpoints of an earlier run, best_coco_bbox_mAP_epoch_2.pth is the newest" in message
    assert not cfg.resume and cfg.load_from is None

    empty = run / "empty"
    assert start(folder=empty)[0] == ""
    message, cfg = start("auto", folder=empty)
    assert "no checkpoint to resume: the run starts from the beginning" in message
    assert not cfg.resume


def test_looks_where_the_config_puts_checkpoints(run):
    hooks = dict(checkpoint=dict(type="CheckpointHook", out_dir=str(run / "out")))
    cfg = Config(dict(work_dir=str(run), default_hooks=hooks))
    elsewhere = save(run / "out" / run.name / "epoch_7.pth", age=99)
    choose_start(cfg, "auto")
    assert cfg.load_from == str(elsewhere)
