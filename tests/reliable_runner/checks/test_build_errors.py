"""A mistake in a config is named, with the nearest known name, in every scope."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, HOOKS, LOOPS, METRICS, MODELS, OPTIMIZERS, DefaultScope

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


@pytest.mark.parametrize("key", ["train_dataloader", "val_dataloader", "val_evaluator"])
def test_what_a_loop_builds_has_the_key_of_the_config(key):
    runner = SimpleNamespace(_train_dataloader={}, _val_dataloader={}, _val_evaluator={})
    setattr(runner, f"_{key}", dict(type="Foo"))
    part = key.partition("_")[2]

    class Loop:
        def __init__(self, runner: object, **parts: dict) -> None:
            (DATASETS if part == "dataloader" else METRICS).build(parts[part])

    with DefaultScope.overwrite_default_scope(OURS), pytest.raises(InputError, match=rf"^{key} \(Foo\): no "):
        LOOPS.build(dict(type=Loop), default_args={"runner": runner, part: getattr(runner, f"_{key}")})


def test_a_missing_key_is_named():
    with DefaultScope.overwrite_default_scope("mmdet"), pytest.raises(InputError, match="ResNet.*'depth'"):
        MODELS.build(dict(type="ResNet"))


def test_a_class_of_mmengine_itself():
    cfg = dict(type="mmengine.ImgDataPreprocessor", mean=(1, 2), std=(1, 2))
    with (
        DefaultScope.overwrite_default_scope(OURS),
        pytest.raises(InputError, match=r"\(data_preprocessor.py,"),
    ):
        MODELS.build(cfg)


SMALL = Path(__file__).parents[3] / "configs" / "_base_" / "models" / "ddetr_r18_small.py"


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("encoder.layer_cfg.self_attn_cfg.num_heads", 7, "(MultiScaleDeformableAttention): "),
        ("encoder.layer_cfg.self_attn_cfg.num_head", 8, "(MultiScaleDeformableAttention): it has"),
        ("decoder.layer_cfg.self_attn_cfg.batch_first", False, "(MultiheadAttention): batch_first"),
        ("backbone.out_indices", (1, 4), "(ResNet): AssertionError (resnet.py, line "),
        ("backbone.dcn", dict(type="DCN", deform_groups=1), "(ResNet): AssertionError: Not implemented yet."),
        ("backbone.depth", 19, "(ResNet): KeyError: 'invalid depth 19 for resnet'"),
        ("backbone.base_channels", "x", "(ResNet): TypeError: "),
        ("positional_encoding", True, "(DeformableDETR): TypeError: cfg should be a dict"),
        ("neck.norm_cfg.num_groups", 7, "(ChannelMapper): num_channels (128) must be divisible"),
        ("bbox_head.loss_iou.epss", 1, "(GIoULoss): it has no parameter 'epss'; did you mean 'eps'"),
        ("train_cfg.assigner.match_costs.1.box_format", "x", "(BBoxL1Cost): "),
    ],
)
def test_the_key_in_the_config(key, value, named):
    cfg = Config.fromfile(SMALL)
    if key == "backbone.dcn":
        cfg.model.backbone.stage_with_dcn = (False, True, True, True)
    cfg.merge_from_dict({f"model.{key}": value}, allow_list_keys=True)
    with DefaultScope.overwrite_default_scope(OURS), pytest.raises(InputError) as error:
        MODELS.build(cfg.model)
    parent = key.rpartition(".")[0].removesuffix(".norm_cfg")
    assert f"{parent} {named}" in str(error.value)


def test_the_scope_that_has_a_name():
    with DefaultScope.overwrite_default_scope("mmdet"), pytest.raises(InputError) as error:
        MODELS.build(dict(type="MSDeformAttn"))
    assert f"default_scope = {OURS!r}" in str(error.value) and "PixelDecoder" not in str(error.value)


@pytest.mark.parametrize("option", [{}, {"queries": dict(type="MixedQueries")}])
def test_the_scope_that_has_another_model_of_the_name(option):
    model = dict(Config.fromfile(SMALL).model, **option)
    with DefaultScope.overwrite_default_scope("mmdet"), pytest.raises(InputError) as error:
        MODELS.build(model)
    assert f"default_scope = {OURS!r}" in str(error.value) and "did you mean" not in str(error.value)
