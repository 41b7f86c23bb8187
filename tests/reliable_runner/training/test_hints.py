"""A validation that finds nothing is hinted at once, after the warm-up."""

from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config

from projects.reliable_runner.training import hints

WARMUP = dict(type="LinearLR", by_epoch=False, end=100)
COSINE = dict(type="CosineAnnealingLR", by_epoch=False, end=9000)


def runner(iteration: int, schedule: list[dict] | dict | None) -> SimpleNamespace:
    # The epoch of an iteration-based loop stays 0.
    cfg = Config(dict(param_scheduler=schedule), filename=__file__)
    return SimpleNamespace(cfg=cfg, iter=iteration, epoch=0, work_dir="work_dirs/mine")


@pytest.mark.parametrize(
    ("iteration", "schedule", "ap50", "hinted"),
    [
        (200, [WARMUP, COSINE], 0.0, True),
        (200, COSINE, 0.0, True),
        (200, None, 0.0, True),
        (50, [WARMUP, COSINE], 0.0, False),
        (0, None, 0.0, False),
        (200, [WARMUP, COSINE], 0.01, False),
    ],
)
def test_nothing_found_after_warm_up(warnings, iteration, schedule, ap50, hinted):
    hook = hints.HintHook()
    for _ in range(2):
        hook.after_val_epoch(runner(iteration, schedule), {"coco/bbox_mAP_50": ap50})
    assert len(warnings) == hinted
    assert all("sanity_check.py work_dirs/mine/test_hints.py" in text for text in warnings)


@pytest.mark.parametrize(
    ("epochs", "step", "hinted"),
    [
        (2, dict(type="CosineAnnealingLR", T_max=60), True),
        (60, dict(type="CosineAnnealingLR", T_max=60, by_epoch=True), False),
        (2, dict(type="LinearLR", end=500, by_epoch=False), False),
        (2, dict(type="MultiStepLR", milestones=[40]), False),
        (2, dict(type="PolyLR", end=3), True),
    ],
)
def test_a_schedule_that_goes_on_after_the_last_epoch(epochs, step, hinted):
    for schedule in (step, [step]):
        found = list(hints.schedule_hints(dict(train_cfg=dict(max_epochs=epochs), param_scheduler=schedule)))
        assert len(found) == hinted and all("max_epochs=N" in hint for hint in found)


@pytest.mark.parametrize(
    ("mean", "std", "high", "hinted"),
    [
        ([123.7] * 3, [58.4] * 3, 255, False),
        ([0.5] * 3, [0.25] * 3, 255, True),
        ([123.7] * 3, [58.4] * 3, 1, True),
        ([123.7], [58.4], 4080, True),
        ([2000.0], [1000.0], 4080, False),
        (None, None, 4080, False),
    ],
)
def test_images_of_another_range_than_mean_and_std(mean, std, high, hinted):
    image = np.random.default_rng(0).random((20, 30, 3)) * high
    assert bool(hints.normalisation_hint(dict(mean=mean, std=std), [image, image])) == hinted


@pytest.mark.parametrize(
    ("batch_size", "hint"), [(32, ""), (24, ""), (4, "2.5e-05 would fit"), (256, "0.0016")]
)
def test_the_learning_rate_belongs_to_a_batch(batch_size, hint):
    cfg = dict(auto_scale_lr=dict(enable=False, base_batch_size=32))
    found = hints.batch_hint(cfg, batch_size, 2e-4)
    assert hint in found and bool(hint) == bool(found)
    assert hints.batch_hint(dict(auto_scale_lr=dict(enable=True, base_batch_size=32)), 2, 2e-4) == ""
