"""The tools' models are the architecture's, in less time."""

import copy
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from torch import nn

from benchmarks.random_batch import random_batch
from projects.deformable_detr.registry import MODELS, SCOPE
from projects.fast_cpu import speed_up
from projects.fast_cpu.conv import Conv2d
from projects.fast_cpu.linear import Linear

TESTS = Path(__file__).parents[1]


@pytest.mark.parametrize("name", ["tiny_ddetr", "tiny_dat", "tiny_detr", "tiny_dino"])
def test_equal_losses_gradients_and_predictions(name):
    torch.manual_seed(0)
    model = MODELS.build(dict(Config.fromfile(TESTS / f"{name}.py").model, _scope_=SCOPE))
    model.init_weights()
    for module in model.modules():
        if isinstance(module, nn.Dropout | nn.MultiheadAttention):
            module.p = module.dropout = 0.0
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-1, 1)
            module.running_var.uniform_(0.5, 2)
    fast = copy.deepcopy(model)
    speed_up(fast)
    assert {Conv2d, Linear} <= {type(module) for module in fast.modules()}
    assert list(fast.state_dict()) == list(model.state_dict())

    batch = random_batch(2, 64, 64, 3)
    for sample in batch["data_samples"]:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0), item_seed=0))
    results = []
    for each in (model.train(), fast.train()):
        losses = each(**each.data_preprocessor(copy.deepcopy(batch), training=True), mode="loss")
        sum(losses.values()).backward()
        with torch.inference_mode():
            found = each.eval().test_step(copy.deepcopy(batch))[0].pred_instances
        gradients = {key: p.grad for key, p in each.named_parameters() if p.grad is not None}
        results.append((losses, found.scores, found.bboxes, gradients))
    torch.testing.assert_close(*results, rtol=1e-3, atol=1e-4)
