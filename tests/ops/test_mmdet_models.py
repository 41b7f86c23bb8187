"""mmdet's own models with deformable attention: equal losses, gradients and detections on our op."""

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import InstanceData

import projects.reliable_runner  # noqa: F401, which lets mmdet be imported
from ms_deform_attn.compat.mmcv_ops import use_in_mmcv
from projects.reliable_runner.checks.compiled_ops import check_compiled_ops
from projects.reliable_runner.log import quiet

BACKBONE = {"backbone.depth": 18, "backbone.base_channels": 8, "backbone.init_cfg": None}
DETR = {
    "neck.in_channels": [16, 32, 64],
    "encoder.num_layers": 1,
    "decoder.num_layers": 2,
    "num_queries": 20,
    "test_cfg.max_per_img": 20,
}
SEGMENTER = {
    "panoptic_head.in_channels": [8, 16, 32, 64],
    "panoptic_head.pixel_decoder.encoder.num_layers": 1,
    "panoptic_head.transformer_decoder.num_layers": 2,
    "panoptic_head.num_queries": 20,
    "test_cfg.max_per_image": 20,
}
CONFIGS = {
    "deformable_detr": ("deformable_detr/deformable-detr-refine-twostage_r50_16xb2-50e_coco.py", DETR),
    "dino": ("dino/dino-4scale_r50_8xb2-12e_coco.py", DETR),
    "ddq": ("ddq/ddq-detr-4scale_r50_8xb2-12e_coco.py", DETR),
    "mask2former": ("mask2former/mask2former_r50_8xb2-lsj-50e_coco.py", SEGMENTER),
}


def build(name: str) -> torch.nn.Module:
    path, sizes = CONFIGS[name]
    cfg = Config(dict(model=get_config(f"mmdet::{path}").model))
    cfg.merge_from_dict({f"model.{key}": value for key, value in (BACKBONE | sizes).items()})
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope("mmdet"), quiet():
        model = MODELS.build(cfg.model)
        model.init_weights()
    return model


def batch() -> tuple[torch.Tensor, list[DetDataSample]]:
    torch.manual_seed(1)
    samples = []
    for _ in range(2):
        boxes = torch.tensor([[10.0, 10, 60, 60], [30, 40, 100, 90]])
        masks = np.zeros((2, 128, 128), np.uint8)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
            mask[y1:y2, x1:x2] = 1
        objects = InstanceData(bboxes=boxes, labels=torch.tensor([1, 2]), masks=BitmapMasks(masks, 128, 128))
        size = (128, 128)
        meta = dict(
            img_shape=size, ori_shape=size, batch_input_shape=size, pad_shape=size, scale_factor=(1, 1)
        )
        samples.append(DetDataSample(metainfo=meta, gt_instances=objects))
    return torch.rand(2, 3, 128, 128), samples


def run(model: torch.nn.Module) -> list[torch.Tensor]:
    """Losses, the gradients of the backbone, and detections."""
    inputs = batch()
    torch.manual_seed(2)
    model.zero_grad()
    losses = model.train().loss(*inputs)
    sums = [value.sum() if torch.is_tensor(value) else sum(value) for value in losses.values()]
    sum(sums).backward()
    grads = [p.grad.clone() for p in model.backbone.parameters() if p.grad is not None]
    with torch.no_grad():
        found = [sample.pred_instances for sample in model.eval().predict(*batch())]
    return [torch.stack(sums).detach(), *grads, *(x.scores for x in found), *(x.bboxes for x in found)]


@pytest.mark.parametrize("name", CONFIGS)
def test_losses_gradients_and_detections_are_the_stock_ones(name, calls):
    model = build(name)
    check_compiled_ops(model, name)
    use_in_mmcv(False)
    stock = run(model)
    use_in_mmcv()
    assert not calls
    ours = run(model)
    assert calls
    for found, expected in zip(ours, stock, strict=True):
        scale = float(expected.abs().max())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4 * max(scale, 1e-3))
