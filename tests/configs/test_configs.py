"""Every config is right in every name and builds."""

from pathlib import Path

import pytest
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import init_default_scope

from projects.deformable_detr.config_check import check_config
from projects.deformable_detr.registry import HOOKS, METRICS, MODELS

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.py"))
OURS = "projects.deformable_detr"


def load(path: Path) -> Config:
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    return cfg


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_builds(path):
    cfg = load(path)
    check_config(cfg)
    model = MODELS.build(cfg.model)
    for part in (
        model,
        *(getattr(model, name) for name in ("neck", "encoder", "decoder", "queries")),
    ):
        assert type(part).__module__.startswith(OURS)
    assert type(model.bbox_head.assigner).__module__.startswith(OURS)
    assert type(model.backbone).__module__.startswith("mmdet")
    for loader in (cfg.train_dataloader, cfg.val_dataloader, cfg.test_dataloader):
        assert len(Compose(loader.dataset.pipeline).transforms)
    for hook in (*cfg.default_hooks.values(), *cfg.custom_hooks):
        assert HOOKS.get(hook["type"])
    assert METRICS.get(cfg.val_evaluator.type)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_config_optimises_every_parameter_that_learns(path):
    cfg = load(path)
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    optimised = {id(p) for group in wrapper.param_groups for p in group["params"]}
    assert optimised >= {id(p) for p in model.parameters() if p.requires_grad}


def test_learning_rates_are_the_papers():
    """Paper, section A.4: 2e-4, and a tenth for backbone, sampling offsets and reference points."""
    cfg = load(next(path for path in CONFIGS if path.stem == "ddetr_r50_50e"))
    model = MODELS.build(cfg.model)
    wrapper = build_optim_wrapper(model, cfg.optim_wrapper)
    rates = {id(p): g["lr"] for g in wrapper.param_groups for p in g["params"]}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            slow = any(key in name for key in ("backbone", "sampling_offsets", "reference_points"))
            assert rates[id(parameter)] == pytest.approx(2e-5 if slow else 2e-4), name


@pytest.mark.parametrize(
    ("name", "millions"),
    [("ddetr_r50_50e", 40), ("ddetr_r50_50e_refine", 41), ("ddetr_r50_50e_two_stage", 41)],
)
def test_size_is_the_papers(name, millions):
    """Paper, table 1 and the official results: 40 M parameters, 41 M with refinement."""
    model = MODELS.build(load(next(path for path in CONFIGS if path.stem == name)).model)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.6)
