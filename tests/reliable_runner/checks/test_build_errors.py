"""A mistake in a config is named, with the nearest known name, in every scope."""

import pytest
from mmengine.registry import HOOKS, LOOPS, MODELS, OPTIMIZERS, DefaultScope

from projects.reliable_runner.errors import InputError

OURS = "projects.deformable_detr"


@pytest.mark.parametrize(
    ("registry", "scope", "cfg", "wrong", "nearest"),
    [
        (MODELS, OURS, dict(type="DeformableDETRR"), "DeformableDETRR", "DeformableDETR"),
        (MODELS, "mmdet", dict(type="ConditionalDET"), "ConditionalDET", "ConditionalDETR"),
        (MODELS, OURS, dict(type="mmdet.ResNett", depth=18), "mmdet.ResNett", "ResNet"),
        (HOOKS, OURS, dict(type="ChekpointHook"), "ChekpointHook", "CheckpointHook"),
        (HOOKS, "mmdet", dict(type="LoggerHook", intervall=2), "intervall", "interval"),
        (MODELS, OURS, dict(type="ResNet", depth=18, norm_evall=True), "norm_evall", "norm_eval"),
        (MODELS, "mmdet", dict(type="ResNet", depth=18, norm_evall=True), "norm_evall", "norm_eval"),
        (LOOPS, OURS, dict(type="ValLoop", evaluatr=3), "evaluatr", "evaluator"),
        (OPTIMIZERS, OURS, dict(type="AdamW", params=[], weigt_decay=1), "weigt_decay", "weight_decay"),
    ],
)
def test_the_mistake_and_the_nearest_name(registry, scope, cfg, wrong, nearest):
    with DefaultScope.overwrite_default_scope(scope), pytest.raises(InputError) as error:
        registry.build(cfg)
    assert repr(wrong) in str(error.value) and repr(nearest) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_key_is_named():
    with DefaultScope.overwrite_default_scope("mmdet"), pytest.raises(InputError, match="ResNet.*'depth'"):
        MODELS.build(dict(type="ResNet"))


def test_a_value_that_a_model_refuses_is_the_users_mistake():
    cfg = dict(type="MultiheadAttention", embed_dims=8, batch_first=False)
    with (
        DefaultScope.overwrite_default_scope(OURS),
        pytest.raises(InputError, match="MultiheadAttention: batch_first"),
    ):
        MODELS.build(cfg)
