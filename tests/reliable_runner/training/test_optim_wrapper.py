"""Which steps are taken, and which are refused before anything changes."""

import math
import re
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from projects.reliable_runner.errors import NonFiniteError
from projects.reliable_runner.training.diagnosis import faulty_gradients
from projects.reliable_runner.training.optim_wrapper import AmpOptimWrapper, OptimWrapper

CLIPS = [None, dict(max_norm=0.1), dict(type="value", clip_value=0.1)]


def make(kind: type, **kwargs) -> tuple[nn.Linear, OptimWrapper]:
    torch.manual_seed(0)
    model = nn.Linear(2, 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    return model, kind(optimizer=optimizer, **kwargs)


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
