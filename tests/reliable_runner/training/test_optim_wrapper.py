"""Which steps are taken, of which batches and in which precision, and which are refused."""

import math
import re
from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from torch import nn

from projects.deformable_detr.registry import OPTIM_WRAPPERS, SCOPE
from projects.reliable_runner.errors import InputError, NonFiniteError
from projects.reliable_runner.training.diagnosis import faulty_gradients
from projects.reliable_runner.training.optim_wrapper import AmpOptimWrapper, OptimWrapper

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
CLIPS = [None, dict(max_norm=0.1), dict(type="value", clip_value=0.1)]


def make(kind: type, device: str = "cpu", **kwargs) -> tuple[nn.Linear, OptimWrapper]:
    torch.manual_seed(0)
    model = nn.Linear(2, 1).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, OPTIM_WRAPPERS.build(dict(type=kind.__name__, optimizer=optimizer, **kwargs))


@pytest.mark.parametrize("clip_grad", CLIPS)
@pytest.mark.parametrize(("kind", "options"), [(OptimWrapper, {}), (AmpOptimWrapper, dict(dtype="bfloat16"))])
@pytest.mark.parametrize(
    ("loss", "what"),
    [
        (lambda x: x.sum() * math.nan, "loss"),
        (lambda x: x.sum() * math.inf, "loss"),
        (lambda x: (x - x.detach()).square().sum().sqrt(), "gradients"),  # 0, of infinite slope
    ],
)
def test_nothing_changes_in_a_step_that_is_not_finite(kind, options, clip_grad, loss, what):
    model, wrapper = make(kind, clip_grad=clip_grad and dict(clip_grad), **options)
    before = model.weight.detach().clone()
    with pytest.raises(NonFiniteError, match=f"non-finite {what} at iteration"):
        wrapper.update_params(loss(model(torch.ones(3, 2))))
    assert torch.equal(model.weight, before)
    assert not wrapper.optimizer.state
    assert re.search("gradients are not: bias, weight$", faulty_gradients(model))

    wrapper.zero_grad()  # the next step is as good as ever
    wrapper.update_params(model(torch.ones(3, 2)).sum())
    assert not torch.equal(model.weight, before)


def test_a_fault_in_one_of_several_batches_waits_for_the_step():
    model, wrapper = make(OptimWrapper, accumulative_counts=2)
    wrapper.initialize_count_status(model, 0, 4)
    wrapper.update_params(model(torch.ones(3, 2)).sum() * math.nan)
    with pytest.raises(NonFiniteError, match="non-finite loss"):
        wrapper.update_params(model(torch.ones(3, 2)).sum())


@pytest.mark.parametrize(
    ("factor", "expectation"),
    [(1.0, nullcontext()), (math.nan, pytest.raises(NonFiniteError, match="non-finite loss"))],
)
def test_gradients_that_overflow_by_the_scale_alone_are_the_scalers(factor, expectation):
    model, wrapper = make(AmpOptimWrapper, dtype="bfloat16", clip_grad=dict(max_norm=0.1))
    wrapper.loss_scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    before = model.weight.detach().clone()
    with expectation:
        wrapper.update_params(model(torch.ones(3, 2)).sum() * 100 * factor)
        assert wrapper.loss_scaler.get_scale() == 2.0**126
    assert torch.equal(model.weight, before)


def amp_step(wrapper: AmpOptimWrapper, model: nn.Module) -> torch.dtype:
    with wrapper.optim_context(model):
        out = model(torch.arange(10.0, device=DEVICE).view(5, 2) / 7)
    wrapper.update_params(out.float().square().mean())
    return out.dtype


def test_bfloat16_steps_as_plain_autocast_does():
    model, wrapper = make(AmpOptimWrapper, DEVICE, dtype="bfloat16")
    plain = deepcopy(model)
    assert amp_step(wrapper, model) is torch.bfloat16
    with torch.autocast(DEVICE, torch.bfloat16):
        loss = plain(torch.arange(10.0, device=DEVICE).view(5, 2) / 7).float().square().mean()
    loss.backward()
    torch.optim.AdamW(plain.parameters(), lr=0.1).step()
    assert torch.equal(model.weight, plain.weight)
    assert model.weight.dtype is torch.float32


@pytest.mark.parametrize("dtype", ["float16", "float64"])
def test_other_types_are_refused(monkeypatch, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match=f"{dtype}.*bfloat16"):
        make(AmpOptimWrapper, dtype=dtype)


@pytest.mark.gpu
def test_float16_scales_the_loss():
    model, wrapper = make(AmpOptimWrapper, "cuda", dtype="float16")
    assert amp_step(wrapper, model) is torch.float16
    assert wrapper.state_dict()["loss_scaler"]["scale"] > 1


def accumulating(kind: type, accumulative_counts: int) -> tuple[MMEngineOptimWrapper, torch.Tensor]:
    weight = nn.Parameter(torch.zeros(()))
    return kind(torch.optim.SGD([weight], lr=1.0), accumulative_counts=accumulative_counts), weight


def test_a_step_is_the_mean_of_its_batches():
    wrapper, weight = accumulating(OptimWrapper, 3)
    for batches, expected in [([3.0, 6.0, 9.0], -6.0), ([5.0], -11.0), ([1.0, 3.0], -13.0)]:
        wrapper.begin_step(len(batches))
        for left, slope in zip(range(len(batches))[::-1], batches, strict=True):
            assert wrapper.should_sync() == (left == 0)
            before = weight.item()
            wrapper.update_params(weight * slope)
            assert (weight.item() == before) == bool(left)
        assert weight.item() == pytest.approx(expected)


def test_without_a_loop_that_begins_steps_it_is_mmengines():
    weights = []
    for kind in (OptimWrapper, MMEngineOptimWrapper):
        wrapper, weight = accumulating(kind, 2)
        wrapper.initialize_count_status(nn.Identity(), 0, 5)
        for slope in range(1, 6):
            wrapper.update_params(weight * slope)
        weights.append(weight.item())
    assert weights[0] == weights[1] == -(1.5 + 3.5 + 5)


GROUPS = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.1, weight_decay=0.01),
    clip_grad=dict(max_norm=1.0),
    paramwise_cfg=dict(
        norm_decay_mult=0.0, custom_keys={"body": dict(lr_mult=0.1), "head": dict(betas=(0.8, 0.9))}
    ),
)


def train_in_groups(constructor: str) -> tuple[nn.Module, list[dict]]:
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 4))
    net = nn.ModuleDict(dict(body=body, neck=nn.LayerNorm(4), head=nn.Linear(4, 2)))
    with DefaultScope.overwrite_default_scope(SCOPE):
        wrapper = build_optim_wrapper(net, deepcopy(GROUPS) | dict(constructor=constructor))
    for step in range(5):
        x = net["body"](torch.ones(2, 3) * step)
        wrapper.update_params(net["head"](net["neck"](x)).square().sum())
    return net, wrapper.optimizer.param_groups


def test_few_groups_learn_what_mmengines_groups_learn():
    ours, groups = train_in_groups("GroupedOptimWrapperConstructor")
    theirs, one_each = train_in_groups("DefaultOptimWrapperConstructor")
    assert len(one_each) == len(list(theirs.parameters())) == 10
    assert [len(group["params"]) for group in groups] == [6, 2, 2]
    assert [group["lr"] for group in groups] == [0.1 * 0.1, 0.1, 0.1]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a, b)
