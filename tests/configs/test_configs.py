"""Every config is right in every name, builds and runs."""

from pathlib import Path

import mmdet
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope
from torch import nn

from projects.deformable_detr.registry import HOOKS, METRICS, MODELS
from projects.reliable_runner.errors import InputError

CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs").rglob("*.py") if "_base_" not in path.parts
)
OURS = "projects.deformable_detr"
THEIRS = Path(mmdet.__file__).parent / ".mim" / "configs"
# The others are mmdet's detectors on a backbone of ours.
DETRS = [path for path in CONFIGS if path.stem.startswith(("ddetr", "detr"))]


def load(path: Path) -> Config:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg


def load_named(name: str) -> Config:
    return load(next(path for path in CONFIGS if path.stem == name))


def build(cfg: Config) -> nn.Module:
    """The model, with parameters that have shapes but no numbers."""
    try:
        with torch.device("meta"):
            return MODELS.build(cfg.model)
    except InputError as error:
        if "dcn" in cfg.model.backbone and "compiled op of mmcv" in str(error):
            pytest.skip("DCN needs a compiled op, and mmcv is installed without them")
        raise


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_names_what_exists(path):
    cfg = load(path)
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert len(Compose(loader.dataset.pipeline).transforms)
    for hook in (*cfg.default_hooks.values(), *cfg.custom_hooks):
        assert HOOKS.get(hook["type"])
    assert METRICS.get(cfg.val_evaluator.type)


@pytest.fixture(scope="module", params=DETRS, ids=lambda path: path.stem)
def built(request) -> tuple[Config, nn.Module]:
    cfg = load(request.param)
    return cfg, build(cfg)


def test_config_builds_and_optimises_every_parameter_that_learns(built):
    cfg, model = built
    if cfg.model.type == "mmdet.DETR":
        for part in model.modules():
            assert type(part).__module__.startswith(("mmdet", "mmcv", "mmengine", "torch"))
    else:
        parts = [model, model.encoder, model.queries, *filter(None, [model.decoder])]
        assert all(type(part).__module__.startswith(OURS) for part in parts)
        assert type(model.neck).__module__.startswith(OURS) or cfg.model.neck.type == "FPN"
        assert type(model.bbox_head.assigner).__module__.startswith(OURS)
    backbone = {base.__module__.partition(".models")[0] for base in type(model.backbone).mro()}
    assert ("projects.dat.backbone" if "_dat_" in cfg.filename else "mmdet") in backbone
    assert_all_are_optimised(cfg, model)


def assert_all_are_optimised(cfg: Config, model: nn.Module) -> None:
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimised = {id(p) for group in wrapper.param_groups for p in group["params"]}
    assert optimised >= {id(p) for p in model.parameters() if p.requires_grad}


def test_config_predicts(built):
    cfg, model = built
    model.to_empty(device="cpu")
    model.eval()
    for tensor in model.state_dict().values():  # initialising them would take seconds
        tensor.fill_(0.01)
    sample = DetDataSample(
        metainfo=dict(
            img_shape=(120, 160),
            batch_input_shape=(128, 160),
            ori_shape=(60, 80),
            scale_factor=(2, 2),
        )
    )
    image = torch.rand(1, 3, 128, 160)  # enough cells for the proposals of two-stage
    with torch.no_grad():
        (predicted,) = model(image, [sample], mode="predict")
        classes, boxes = model(image, [sample], mode="tensor")
    assert predicted.pred_instances.bboxes.shape == (cfg.model.test_cfg.max_per_img, 4)
    num_cells = sum(h * w for h, w in [(16, 20), (8, 10), (4, 5), (2, 3)])
    size = (1, 1, num_cells)
    if cfg.model.decoder:
        size = (cfg.model.decoder.num_layers, 1, cfg.model.num_queries)
    background = cfg.model.type == "mmdet.DETR"
    assert classes.shape == (*size, cfg.model.bbox_head.num_classes + background)
    assert boxes.shape == (*size, 4)
    assert classes.isfinite().all() and boxes.isfinite().all()


@pytest.mark.parametrize(
    ("name", "millions", "strides"),
    [
        ("retinanet_dat_t_1x", 38, [8, 16, 32, 64, 128]),
        ("mask_rcnn_dat_t_1x", 48, [4, 8, 16, 32, 64]),
    ],
)
def test_mmdets_detector_runs_on_dat(name, millions, strides):
    """Up to the ops of a full mmcv; the number of parameters says that nothing is missing."""
    cfg = load_named(name)
    model = build(cfg)
    assert int(sum(p.numel() for p in model.parameters()) / 1e6 + 0.5) == millions
    assert type(model).__module__.startswith("mmdet")
    assert type(model.backbone).__module__ == "projects.dat.backbone"
    assert_all_are_optimised(cfg, model)
    feats = model.extract_feat(torch.zeros(1, 3, 128, 256, device="meta"))
    assert [feat.shape for feat in feats] == [(1, 256, 128 // stride, 256 // stride) for stride in strides]


def test_dat_decays_no_norm_and_no_table():
    cfg = load_named("retinanet_dat_t_1x")
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    decay = {id(p): g["weight_decay"] for g in wrapper.param_groups for p in g["params"]}
    for name, parameter in model.backbone.named_parameters():
        exempt = "norm" in name or "table" in name
        assert decay[id(parameter)] == (0.0 if exempt else 0.05), name


def test_learning_rates_are_the_papers():
    """Paper, section A.4: 2e-4, and a tenth for backbone, sampling offsets and reference points."""
    cfg = load_named("ddetr_r50_50e")
    model = build(cfg)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {id(p): g["lr"] for g in wrapper.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            slow = any(key in name for key in ("backbone", "sampling_offsets", "reference_points"))
            assert rates[id(parameter)] == pytest.approx(2e-5 if slow else 2e-4), name


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("ddetr_r50_50e_single_scale", 34),
        ("ddetr_r50_50e_single_scale_dc5", 34),
        ("ddetr_r50_50e", 40),
        ("ddetr_r50_50e_refine", 41),
        ("ddetr_r50_50e_two_stage", 41),
    ],
)
def test_size_is_the_published(name, millions):
    """Official results: parameters in millions."""
    model = build(load_named(name))
    assert round(sum(p.numel() for p in model.parameters()) / 1e6) == millions


@pytest.mark.parametrize(
    ("name", "levels", "points", "strides"),
    [
        ("single_scale", 1, 4, [32]),
        ("single_scale_dc5", 1, 4, [16]),
        ("single_scale_k1", 1, 1, [32]),
        ("levelwise", 4, 4, [8, 16, 32, 64]),
        ("levelwise_k1", 4, 1, [8, 16, 32, 64]),
        ("fpn", 4, 4, [8, 16, 32, 64]),
        ("bifpn", 4, 4, [8, 16, 32, 64]),
    ],
)
def test_ablation_is_the_papers(name, levels, points, strides):
    """Paper, table 2, and the official results: levels and sampling points a level."""
    model = build(load_named(f"ddetr_r50_50e_{name}"))
    for layer in model.decoder.layers:
        assert (layer.cross_attn.num_levels, layer.cross_attn.num_points) == (levels, points)
    for layer in model.encoder.layers:
        levels_seen = 1 if "levelwise" in name else levels
        assert (layer.self_attn.num_levels, layer.self_attn.num_points) == (levels_seen, points)
    sizes = [feat.shape[-1] for feat in model.extract_feat(torch.zeros(1, 3, 64, 640, device="meta"))]
    assert sizes == [640 // stride for stride in strides]


@pytest.mark.parametrize(
    "path", [path for path in CONFIGS if "_50e" in path.stem], ids=lambda path: path.stem
)
def test_config_of_the_paper_trains_as_mmdets_do(path):
    """All but the data set's paths: optimiser, schedule, batches and the pipelines of images."""
    ours = load(path)
    # How fast the optimiser computes the same.
    assert ours.optim_wrapper.pop("constructor") == "GroupedOptimWrapperConstructor"
    assert ours.optim_wrapper.optimizer.pop("fused")
    theirs = Config.fromfile(THEIRS / "deformable_detr" / "deformable-detr_r50_16xb2-50e_coco.py")
    for key in ("optim_wrapper", "param_scheduler", "train_cfg", "val_cfg", "test_cfg"):
        assert ours[key] == theirs[key], key
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    assert ours.train_dataloader.dataset.pipeline == theirs.train_dataloader.dataset.pipeline


def test_detr_is_mmdets():
    ours = load_named("detr_r50_150e")
    theirs = Config.fromfile(THEIRS / "detr" / "detr_r50_8xb2-150e_coco.py")
    for key in ("optim_wrapper", "param_scheduler", "train_cfg", "val_cfg", "test_cfg"):
        assert ours[key] == theirs[key], key
    assert ours.auto_scale_lr.base_batch_size == theirs.auto_scale_lr.base_batch_size
    assert ours.train_dataloader.batch_size == theirs.train_dataloader.batch_size
    for loader in ("train_dataloader", "test_dataloader"):
        assert ours[loader].dataset.pipeline == theirs[loader].dataset.pipeline
    assert ours.model.train_cfg.assigner.pop("_scope_") == "mmdet"  # ours takes other arguments
    assert ours.model == {**theirs.model, "_scope_": "mmdet", "type": "mmdet.DETR"}
