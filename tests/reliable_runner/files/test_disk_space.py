"""A disk that is too small is told before the first iteration."""

import shutil
from types import SimpleNamespace

import pytest
from mmengine.hooks import EMAHook
from torch import nn

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.disk_space import check_disk_space
from projects.reliable_runner.training.checkpoint_hook import CheckpointHook

MB = 10**6
WEIGHTS = 10 * MB  # of which 4 MB are not trained
CHECKPOINT = WEIGHTS + 2 * 6 * MB


def check(monkeypatch, free: int, epoch: int = 0, kept: list = (), hooks: list = (), **config):
    model = nn.Sequential(nn.Linear(1000, 1500, bias=False), nn.Linear(1000, 1000, bias=False))
    model[1].requires_grad_(False)
    runner = SimpleNamespace(model=model, hooks=hooks, epoch=epoch, max_epochs=10)
    hook = CheckpointHook(out_dir="/runs", **dict(interval=1) | config)
    hook.keep_ckpt_ids = kept
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    check_disk_space(runner, hook)


@pytest.mark.parametrize(
    ("config", "needed"),
    [
        ({}, 2 * CHECKPOINT),
        ({"hooks": [EMAHook()]}, 2 * (CHECKPOINT + WEIGHTS)),
        ({"save_optimizer": False}, 2 * WEIGHTS),
        # A resumed run has one, and only writes another beside it.
        ({"max_keep_ckpts": 1, "kept": [3], "epoch": 3}, CHECKPOINT),
    ],
)
def test_room_for_one_checkpoint_more_is_needed(monkeypatch, warnings, config, needed):
    check(monkeypatch, free=needed, **config)
    with pytest.raises(InputError, match=f"/runs: .* MB are free, .* takes {needed / MB:.2f} MB"):
        check(monkeypatch, free=needed - 1, **config)


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ({}, 11 * CHECKPOINT),
        ({"epoch": 6}, 5 * CHECKPOINT),
        ({"interval": 4}, 4 * CHECKPOINT),
        ({"interval": -1}, 2 * CHECKPOINT),
        ({"max_keep_ckpts": 3}, 4 * CHECKPOINT),
        ({"max_keep_ckpts": 3, "save_best": "mAP"}, 4 * CHECKPOINT + WEIGHTS),
        ({"max_keep_ckpts": 3, "kept": [4, 5], "epoch": 5}, 2 * CHECKPOINT),
    ],
)
def test_a_run_that_will_fill_the_disk_is_warned(monkeypatch, warnings, config, wanted):
    check(monkeypatch, free=wanted, **config)
    assert not warnings
    if wanted > 2 * CHECKPOINT:
        check(monkeypatch, free=wanted - 1, **config)
        (warning,) = warnings
        assert f"the whole run {wanted / MB:,.2f} MB" in warning and "max_keep_ckpts=1" in warning


def test_a_finished_run_needs_nothing(monkeypatch, warnings):
    check(monkeypatch, free=0, epoch=10)
    assert not warnings
