"""Small models and batches of noise."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from ms_deform_attn.compat.mmcv_ops import use_in_mmcv
from projects.deformable_detr.registry import MODELS, SCOPE

BASE = Path(__file__).parents[2] / "configs" / "_base_" / "models" / "ddetr_r18_small.py"
VARIANTS = {
    "base": dict(with_box_refine=False, as_two_stage=False),
    "refine": dict(with_box_refine=True, as_two_stage=False),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
    "encoder_only": dict(decoder=None),
    "dino": {
        "with_box_refine": True,
        "as_two_stage": True,
        "queries": dict(type="MixedQueries"),
        "denoising": dict(type="ContrastiveDenoising"),
        "decoder.embed_references": True,
        "decoder.look_forward_twice": True,
        "decoder.refine_eps": 1e-3,
        "decoder.post_norm_cfg": dict(type="LN"),
    },
}
SINGLE_SCALE = {
    **VARIANTS["base"],
    "num_feature_levels": 1,
    "backbone.out_indices": (3,),
    "neck.in_channels": [64],
    "neck.num_outs": 1,
    "encoder.layer_cfg.self_attn_cfg.num_levels": 1,
    "decoder.layer_cfg.cross_attn_cfg.num_levels": 1,
}


@pytest.fixture(autouse=True, scope="package")
def stock_mmcv() -> Iterator[None]:
    """mmdet's models, with which ours are compared, sample as mmcv does."""
    use_in_mmcv(False)
    yield
    use_in_mmcv()


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope(SCOPE)
    torch.manual_seed(0)


base_cfg = cache(lambda: Config.fromfile(BASE))


def small_model_cfg(**options) -> Config:
    """The model of the configs for small data sets, narrower; options by their dotted keys."""
    cfg = copy.deepcopy(base_cfg())
    small = {
        "backbone.base_channels": 8,
        "neck.in_channels": [16, 32, 64],
        "bbox_head.num_classes": 3,
    }
    cfg.merge_from_dict({f"model.{key}": value for key, value in (small | options).items()})
    return cfg.model


def small_model(**options) -> nn.Module:
    torch.manual_seed(0)
    model = MODELS.build(small_model_cfg(**options))
    model.init_weights()
    return model


def batch(
    num_objects: list[int],
    shapes: list[tuple[int, int]],
    dtype: torch.dtype = torch.float32,
    num_classes: int = 3,
) -> tuple[torch.Tensor, list[DetDataSample]]:
    """Images of noise, padded to the largest, with random objects; the original images are twice as large."""
    generator = torch.Generator().manual_seed(1)
    input_shape = tuple(max(side) for side in zip(*shapes, strict=True))
    inputs = torch.zeros(len(shapes), 3, *input_shape, dtype=dtype)
    samples = []
    for i, ((h, w), n) in enumerate(zip(shapes, num_objects, strict=True)):
        inputs[i, :, :h, :w] = torch.randn(3, h, w, generator=generator, dtype=dtype)
        corners = torch.rand(n, 2, 2, generator=generator).sort(1).values.flatten(1)
        objects = InstanceData(
            bboxes=(corners * torch.tensor([w, h, w, h])).to(dtype),
            labels=torch.randint(num_classes, (n,), generator=generator),
        )
        meta = dict(
            img_shape=(h, w),
            ori_shape=(2 * h, 2 * w),
            batch_input_shape=input_shape,
            scale_factor=(0.5, 0.5),
            img_path=f"{i}.jpg",
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return inputs, samples
