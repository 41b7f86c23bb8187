"""Weights of another model are only good to start from."""

import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import BaseLoop
from torch import nn

from projects.deformable_detr.checkpoint_check import CheckpointCheckHook
from projects.deformable_detr.errors import InputError


def load(checkpoint: dict, resume: bool = False, train: bool = True) -> None:
    """Call the hook as a runner does whose model is a small normalised layer."""
    load_into(model(), checkpoint, resume, train)


def load_into(
    model: nn.Module, checkpoint: dict, resume: bool = False, train: bool = True
) -> nn.Module:
    """Call the hook as a runner with ``model`` does, and load what it leaves."""
    loop = BaseLoop.__new__(type("Loop", (BaseLoop,), {"run": None}))
    loop.dataloader = SimpleNamespace(dataset=None)
    loops = dict(_train_loop=loop if train else {}, _test_loop=loop, _val_loop={})
    runner = SimpleNamespace(_resume=resume, _load_from="a.pth", model=model, **loops)
    checkpoint = copy.deepcopy(checkpoint)
    CheckpointCheckHook().after_load_checkpoint(runner, checkpoint)
    weights = checkpoint.get("state_dict", checkpoint)
    if train and not resume:
        model.load_state_dict(weights, strict=True)
    return model


def model(width: int = 3) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.BatchNorm1d(width))


RUN = {"meta": {}, "message_hub": {}, "optimizer": {}}


def test_weights_alone_are_refused_when_resuming():
    weights_alone = {"state_dict": model().state_dict()}
    load(weights_alone)
    load(RUN | weights_alone, resume=True)
    with pytest.raises(InputError, match="a.pth: .* lacks message_hub, meta, optimizer"):
        load(weights_alone, resume=True)


def test_weights_of_another_model_can_only_be_started_from():
    state_dict = {f"module.{key}": value for key, value in model(width=4).state_dict().items()}
    state_dict["module.1.bias"] = torch.zeros(3)
    del state_dict["module.1.num_batches_tracked"]
    checkpoint = RUN | {"state_dict": state_dict}
    load(checkpoint)
    for kwargs in {"resume": True}, {"train": False}:
        with pytest.raises(InputError, match=r"of another model: 0.weight is \(4, 3\) instead of"):
            load(checkpoint, **kwargs)
    del state_dict["module.1.bias"]
    with pytest.raises(
        InputError, match="none of its weights fits the model: .* 1.bias is not there"
    ):
        load(checkpoint)


def test_weights_that_fit_are_taken():
    state_dict = model().state_dict()
    del state_dict["1.num_batches_tracked"]
    load(state_dict, train=False)
    load(RUN | {"state_dict": state_dict}, resume=True)
