"""A step is made of as many batches as the loop says."""

import pytest
import torch
from mmengine.optim import OptimWrapper as MMEngineOptimWrapper

from projects.deformable_detr.registry import OPTIM_WRAPPERS
from projects.reliable_runner.training.optim_wrapper import OptimWrapper


def build(kind: type, accumulative_counts: int) -> tuple[MMEngineOptimWrapper, torch.Tensor]:
    weight = torch.nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    return kind(optimizer, accumulative_counts=accumulative_counts), weight


def test_a_step_is_the_mean_of_its_batches():
    wrapper, weight = build(OptimWrapper, accumulative_counts=3)
    assert OPTIM_WRAPPERS.get("OptimWrapper") is OptimWrapper
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
        wrapper, weight = build(kind, accumulative_counts=2)
        wrapper.initialize_count_status(torch.nn.Identity(), 0, 5)
        for slope in range(1, 6):
            wrapper.update_params(weight * slope)
        weights.append(weight.item())
    assert weights[0] == weights[1] == -(1.5 + 3.5 + 5)
