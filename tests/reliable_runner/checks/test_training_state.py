"""A run goes on only from a state that fits it."""

import copy
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.optim import MultiStepLR, OptimWrapper
from torch import nn

from projects.reliable_runner.checks.training_state import check_state
from projects.reliable_runner.errors import InputError


@pytest.fixture
def runner(tmp_path) -> SimpleNamespace:
    """Optimizer and schedule of a small model, after a step."""
    model = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    schedulers = [MultiStepLR(optimizer, milestones=[2])]
    model(torch.ones(3)).sum().backward()
    optimizer.step()
    work_dir = tmp_path / "work"
    work_dir.mkdir()
    return SimpleNamespace(
        work_dir=str(work_dir), optim_wrapper=OptimWrapper(optimizer), param_schedulers=schedulers
    )


@pytest.fixture
def checkpoint(runner) -> dict:
    """What the runner would save."""
    history = HistoryBuffer([0.5], [1])
    return dict(
        meta=dict(epoch=1, iter=4, seed=3),
        message_hub=dict(log_scalars={"loss": history}, runtime_info={"best_score": 0.5}, resumed_keys={}),
        optimizer=copy.deepcopy(runner.optim_wrapper.state_dict()),
        param_schedulers=[scheduler.state_dict() for scheduler in runner.param_schedulers],
    )


def test_its_own_state_is_taken_unchanged(runner, checkpoint):
    before = copy.deepcopy(checkpoint)
    check_state("a.pth", checkpoint, runner)
    assert str(checkpoint["optimizer"]) == str(before["optimizer"])
    assert checkpoint["message_hub"]["runtime_info"] == {"best_score": 0.5}
    runner.optim_wrapper.load_state_dict(checkpoint["optimizer"])


INFO = ("message_hub", "runtime_info")


def state(index: int) -> tuple:
    return "optimizer", "state", index


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("meta",), "x", "meta is a str"),
        (("meta", "epoch"), -1, "meta.epoch is -1"),
        (("meta", "iter"), 10**30, "meta.iter is 1000"),
        (("meta", "seed"), "x", "meta.seed is 'x'"),
        (("message_hub",), {}, "message_hub lacks "),
        (("message_hub", "runtime_info"), [], "message_hub.runtime_info is "),
        (("message_hub", "log_scalars", "loss"), HistoryBuffer.__new__(HistoryBuffer), "damaged"),
        (("message_hub", "resumed_keys"), {"loss": 1}, "resumed_keys holds other values than True"),
        ((*INFO, "best_score"), "x", r"\['best_score'\] is 'x'"),
        (("optimizer",), {}, "optimizer lacks "),
        ((*INFO, "best_ckpt_coco/bbox_mAP"), 3, r"\['best_ckpt_coco/bbox_mAP'\] is 3"),
        ((*INFO, "keep_ckpt_ids"), ["/../x"], r"\['keep_ckpt_ids'\] is \['/../x'\]"),
        ((*INFO, "outdated_ckpts"), "x", r"\['outdated_ckpts'\] is 'x'"),
        (
            (*INFO, "early_stopping"),
            ["mAP", None, 1],
            r"\['early_stopping'\] is \['mAP', None, 1\]",
        ),
        (
            ("optimizer", "param_groups"),
            [],
            r"its optimizer .*\[\], .* this run \[\(2, ",
        ),
        (("optimizer", "param_groups", 0, "params"), [0], r"its optimizer .*\(1, \['betas'\]\)"),
        (("optimizer", "param_groups", 0), 3, "optimizer.param_groups"),
        (("optimizer", "param_groups", 0, "lr"), math.nan, r"param_groups\[0\].lr is nan"),
        (("optimizer", "param_groups", 0, "betas"), (0.9,), r"param_groups\[0\].betas is \(0.9,\)"),
        (state(0), {"step": torch.ones(())}, r"state\[0\] .* of a parameter of \(2, 3\)"),
        ((*state(1), "exp_avg"), torch.ones(3), r"state\[1\] .* of a parameter of \(2,\)"),
        ((*state(1), "exp_avg"), torch.ones(2).to_sparse(), r"state\[1\]"),
        (("param_schedulers", 0), 3, r"param_schedulers\[0\]"),
        (("param_schedulers", 0, "step"), 3, r"param_schedulers\[0\]"),
        (("param_schedulers", 0, "last_step"), "x", r"param_schedulers\[0\].last_step is 'x'"),
    ],
)
def test_another_state_is_refused(runner, checkpoint, place, value, message):
    *way, last = place
    node = checkpoint
    for step in way:
        node = node[step]
    node[last] = value
    with pytest.raises(InputError, match=f"^a.pth: a run can't be resumed from this checkpoint: .*{message}"):
        check_state("a.pth", checkpoint, runner)


def test_history_of_other_numbers(runner, checkpoint):
    history = checkpoint["message_hub"]["log_scalars"]["loss"]
    history._log_history = np.array(["x"])
    with pytest.raises(InputError, match="the history of 'loss' is damaged"):
        check_state("a.pth", checkpoint, runner)
