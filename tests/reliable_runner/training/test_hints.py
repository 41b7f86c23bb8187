"""A validation that finds nothing is hinted at once, after the warm-up."""

from types import SimpleNamespace

import pytest
from mmengine.config import Config

from projects.reliable_runner.training import hints

WARMUP = dict(type="LinearLR", by_epoch=False, end=100)
COSINE = dict(type="CosineAnnealingLR", by_epoch=False, end=9000)


def runner(iteration: int, schedule: list[dict] | dict | None) -> SimpleNamespace:
    # The epoch of an iteration-based loop stays 0.
    return SimpleNamespace(cfg=Config(dict(param_scheduler=schedule)), iter=iteration, epoch=0)


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
    assert all("sanity_check.py" in text for text in warnings)
