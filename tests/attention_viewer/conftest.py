from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from PIL import Image
from torch import nn

from projects.attention_viewer.loading import build_model, read_image

TESTS = Path(__file__).parents[1]
VARIANTS = {
    "base": {},
    "refine": dict(with_box_refine=True),
    "two_stage": dict(with_box_refine=True, as_two_stage=True),
    "encoder_only": dict(decoder=None),
    "levelwise": {"encoder.layer_cfg.self_attn_cfg": dict(type="LevelwiseDeformAttn")},
}


@pytest.fixture
def build() -> Callable[..., tuple[Config, nn.Module]]:
    """Config and model of tests/tiny_detr.py ("detr"), tiny_dat.py or a variant of tiny_ddetr.py."""

    def build(variant: str, side: int = 64) -> tuple[Config, nn.Module]:
        name = variant if variant in ("detr", "dat") else "ddetr"
        cfg = Config.fromfile(TESTS / f"tiny_{name}.py")
        if variant == "levelwise":
            attention = cfg.model.encoder.layer_cfg.self_attn_cfg
            attention.pop("num_levels")
        options = VARIANTS.get(variant, {})
        cfg.merge_from_dict({f"model.{key}": value for key, value in options.items()})
        cfg.model.data_preprocessor.pad_size_divisor = side
        torch.manual_seed(0)
        model = build_model(cfg)
        for parameter in model.parameters():  # offsets and weights that differ from query to query
            parameter.data += 0.05 * torch.randn_like(parameter)
        return cfg, model

    return build


@pytest.fixture
def padded_batch() -> tuple[torch.Tensor, list[DetDataSample]]:
    """Two images of 128 x 96, the second of which is 64 x 32 without padding."""
    shapes = (96, 128), (32, 64)
    inputs = torch.zeros(2, 3, 96, 128)
    samples = []
    generator = torch.Generator().manual_seed(0)
    for image, (h, w) in zip(inputs, shapes, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w, generator=generator)
        meta = dict(img_shape=(h, w), batch_input_shape=(96, 128))
        samples.append(DetDataSample(metainfo=meta))
    return inputs, samples


@pytest.fixture
def pipeline_batch(tmp_path) -> Callable[..., dict]:
    """A picture of 128 x 96 with a bright block, resized to a square (another aspect) and flipped."""

    def batch(cfg: Config, direction: str | None, block: tuple[int, int] = (80, 24), side: int = 32) -> dict:
        picture = np.zeros((96, 128, 3), np.uint8)
        x, y = block
        picture[y : y + 12, x : x + 16] = 255
        path = tmp_path / "picture.png"
        Image.fromarray(picture).save(path)
        steps = [
            dict(type="LoadImageFromFile"),
            dict(type="Resize", scale=(side, side), keep_ratio=False),
            dict(type="PackDetInputs", meta_keys=("img_id",)),
        ]
        if direction:
            steps.insert(2, dict(type="RandomFlip", prob=1.0, direction=direction))
        cfg.test_dataloader.dataset.pipeline = steps
        return read_image(cfg, path)

    return batch
