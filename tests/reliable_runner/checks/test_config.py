"""Unknown names and keys of a config are all found, and nothing else is."""

from pathlib import Path

import pytest
from mmengine import Config

from projects.deformable_detr.registry import SCOPE
from projects.reliable_runner.checks.config import check_config
from projects.reliable_runner.checks.keywords import keywords
from projects.reliable_runner.errors import InputError

mmdet = pytest.importorskip("mmdet")

REPO = Path(__file__).resolve().parents[3]
OURS = sorted((REPO / "configs").glob("*.py"))
THEIRS = Path(mmdet.__file__).parent / ".mim" / "configs"
# Between them: hooks with priorities, wrappers of data sets and models, loops by iteration, plugins,
# deformable convolutions, Albu, custom imports, and heads whose keywords pass through several bases.
SAMPLE = (
    "albu_example/mask-rcnn_r50_fpn_albu-1x_coco.py",
    "dcnv2/faster-rcnn_r50-mdconv-c3-c5_fpn_1x_coco.py",
    "ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py",
    "deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py",
    "detr/detr_r50_8xb2-150e_coco.py",
    "fpg/retinanet_r50_fpg_crop640_50e_coco.py",
    "gcnet/mask-rcnn_r50-gcb-r4-c3-c5_fpn_1x_coco.py",
    "lvis/mask-rcnn_x101-64x4d_fpn_sample1e-3_ms-2x_lvis-v0.5.py",
    "mask2former/mask2former_r50_8xb2-lsj-50e_coco.py",
    "queryinst/queryinst_r50_fpn_1x_coco.py",
    "rtmdet/rtmdet_s_8xb32-300e_coco.py",
    "soft_teacher/soft-teacher_faster-rcnn_r50-caffe_fpn_180k_semi-0.1-coco.py",
    "vfnet/vfnet_r50_fpn_1x_coco.py",
    "yolox/yolox_s_8xb8-300e_coco.py",
)


@pytest.fixture
def cfg() -> Config:
    return Config.fromfile(REPO / "configs" / "ddetr_r50_50e.py")


def problems(cfg: Config) -> list[str]:
    with pytest.raises(InputError) as error:
        check_config(cfg)
    return [line.strip() for line in str(error.value).splitlines()[1:]]


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_no_alarm_over_our_configs(path):
    check_config(Config.fromfile(path))


@pytest.mark.parametrize("scope", ["mmdet", SCOPE])
@pytest.mark.parametrize("name", SAMPLE)
def test_no_alarm_over_mmdets_configs(name, scope):
    cfg = Config.fromfile(THEIRS / name)
    cfg.default_scope = scope
    check_config(cfg)


def test_a_mistake_that_mmdet_ships_is_found():
    name = "bytetrack/bytetrack_yolox_x_8xb4-80e_crowdhuman-mot20train_test-mot20test.py"
    (problem,) = problems(Config.fromfile(THEIRS / name))
    assert problem.startswith("test_evaluator.type: nothing is registered as 'MOTChallengeMetrics'")


@pytest.mark.parametrize(
    ("option", "value", "path", "offered"),
    [
        ("model.bbox_head.num_clases", 3, "model.bbox_head.num_clases", "num_classes"),
        ("model.num_querys", 3, "model.num_querys", "num_queries"),
        ("model.backbone.type", "ResNett", "model.backbone.type", "ResNet"),
        ("model.backbone.type", "mmdet.ResNett", "model.backbone.type", "ResNet"),
        ("model.backbone.depht", 50, "model.backbone.depht", "depth"),
        ("model.backbone.norm_cfg.requires_gradd", 1, None, "requires_grad"),
        (
            "model.train_cfg.assigner.match_cost",
            [],
            "model.train_cfg.assigner.match_cost",
            "match_costs",
        ),
        ("train_dataloader.batch_sise", 3, "train_dataloader.batch_sise", "batch_size"),
        ("train_dataloader.sampler.shufle", True, "train_dataloader.sampler.shufle", "shuffle"),
        (
            "train_dataloader.dataset.anno_file",
            "a",
            "train_dataloader.dataset.anno_file",
            "ann_file",
        ),
        ("val_evaluator.metrik", "bbox", "val_evaluator.metrik", "metric"),
        ("optim_wrapper.optimizer.learnrate", 1, "optim_wrapper.optimizer.learnrate", None),
        ("optim_wrapper.optimizer.type", "AdanW", "optim_wrapper.optimizer.type", "AdamW"),
        ("optim_wrapper.clipgrad", {}, "optim_wrapper.clipgrad", "clip_grad"),
        ("optim_wrapper.constructor", "LayerDecayConstructor", "optim_wrapper.constructor", None),
        ("default_hooks.checkpoint.type", "CheckpointHok", None, "CheckpointHook"),
        ("default_hooks.timer.priorty", 3, "default_hooks.timer.priorty", "priority"),
        ("train_cfg.max_epoch", 3, "train_cfg.max_epoch", "max_epochs"),
        ("randomness.seeed", 3, "randomness.seeed", "seed"),
        ("train_dataloder", {}, "train_dataloder", "train_dataloader"),
        ("optim_wraper", {}, "optim_wraper", "optim_wrapper"),
    ],
)
def test_mistake_is_found_where_it_is_and_the_nearest_name_offered(cfg, option, value, path, offered):
    cfg.merge_from_dict({option: value})
    (problem,) = problems(cfg)
    assert problem.startswith(f"{path or option}: ")
    if offered:
        assert repr(offered) in problem


def test_all_mistakes_are_reported_at_once(cfg):
    cfg.merge_from_dict({"model.neck.typ": "X", "train_dataloader.dataset.pipeline.1.with_box": True})
    cfg.merge_from_dict({"custom_hooks": [{"type": "EMAHok"}], "my_own_variable": {"type": "Free"}})
    found = problems(cfg)
    assert [problem.split(":")[0] for problem in found] == [
        "custom_hooks[0].type",
        "model.neck.typ",
        "train_dataloader.dataset.pipeline[1].with_box",
    ]
    assert "'EMAHook'" in found[0] and "'with_bbox'" in found[2]


def test_package_that_is_not_there(cfg):
    cfg.merge_from_dict({"model.backbone.type": "nosuchpackage.ResNet"})
    assert "is the package 'nosuchpackage' installed?" in problems(cfg)[0]


def test_keys_that_the_runner_consumes(cfg):
    cfg.merge_from_dict(
        {
            "train_dataloader.num_batch_per_epoch": 3,
            "default_hooks.timer.priority": "LOW",
            "optim_wrapper.constructor": "DefaultOptimWrapperConstructor",
            "model.backbone._scope_": "mmdet",
            "model.type": f"{SCOPE}.detector.DeformableDETR",
            "param_scheduler": [{"type": "LinearLR", "convert_to_iter_based": True, "end": 1}],
        }
    )
    del cfg.optim_wrapper["type"]
    cfg.train_cfg = {"by_epoch": False, "max_iters": 3, "val_interval": 1}
    check_config(cfg)


def test_type_that_is_a_class_is_judged_too(cfg):
    from torch.nn import Linear

    cfg.model.neck = {"type": Linear, "in_features": 1, "outfeatures": 2}
    assert problems(cfg) == [
        "model.neck.outfeatures: Linear has no such parameter; " + "did you mean "
        "'out_features' or 'in_features'?"
    ]


class Base:
    def __init__(self, base):
        pass


class HandsOn(Base):
    def __init__(self, own, **kwargs):
        kwargs.pop("popped", None)
        super().__init__(**kwargs)


class Swallows(Base):
    def __init__(self, own, **kwargs):
        super().__init__(own)
        self.rest = kwargs


def free(own, **kwargs):
    pass


@pytest.mark.parametrize(
    ("target", "names"),
    [
        (Base, {"base"}),
        (HandsOn, {"own", "popped", "base"}),
        (Swallows, None),
        (free, None),
        (lambda one, *, two: None, {"one", "two"}),
        (type("Plain", (Base,), {}), {"base"}),
    ],
)
def test_keywords(target, names):
    assert keywords(target) == names
