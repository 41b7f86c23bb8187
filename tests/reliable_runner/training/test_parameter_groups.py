from copy import deepcopy

import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from projects.deformable_detr.registry import SCOPE
from projects.reliable_runner.training.parameter_groups import GroupedOptimWrapperConstructor

CFG = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0,
        custom_keys={"body": dict(lr_mult=0.1), "head": dict(betas=(0.8, 0.9))},
    ),
)


def model() -> nn.Module:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    return nn.ModuleDict(dict(body=body, neck=nn.LayerNorm(4), head=nn.Linear(4, 2)))


def train(constructor: str) -> tuple[nn.Module, list[dict]]:
    net = model()
    with DefaultScope.overwrite_default_scope(SCOPE):
        wrapper = build_optim_wrapper(net, deepcopy(CFG) | dict(constructor=constructor))
    for step in range(5):
        x = net["body"](torch.ones(2, 3) * step)
        wrapper.update_params(net["head"](net["neck"](x)).square().sum())
    return net, wrapper.optimizer.param_groups


def test_learns_what_mmengines_groups_learn():
    ours, groups = train(GroupedOptimWrapperConstructor.__name__)
    theirs, one_each = train("DefaultOptimWrapperConstructor")
    assert len(one_each) == len(list(theirs.parameters())) == 10
    assert [len(group["params"]) for group in groups] == [6, 2, 2]
    assert [group["lr"] for group in groups] == [0.1 * 0.1, 0.1, 0.1]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
