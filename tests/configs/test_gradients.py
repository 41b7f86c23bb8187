"""Every parameter that learns gets a gradient, so DDP needs no ``find_unused_parameters``."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.errors import InputError

CONFIGS = sorted(
    path for path in (Path(__file__).parents[2] / "configs").rglob("*.py") if "_base_" not in path.parts
)
SIZE = 64


def sample(num_objects: int) -> DetDataSample:
    """An image whose objects, if any, are the left half and its upper part."""
    boxes = torch.tensor([[0.0, 0, SIZE / 2, SIZE], [0, 0, SIZE / 2, SIZE / 4]])[:num_objects]
    objects = InstanceData(
        bboxes=boxes,
        labels=torch.zeros(num_objects, dtype=torch.long),
        masks=BitmapMasks(np.zeros((num_objects, SIZE, SIZE), np.uint8), SIZE, SIZE),
    )
    shape = dict(img_shape=(SIZE, SIZE), pad_shape=(SIZE, SIZE), batch_input_shape=(SIZE, SIZE))
    data_sample = DetDataSample(metainfo=dict(shape, img_id=0, scale_factor=(1.0, 1.0)))
    data_sample.gt_instances = objects
    data_sample.ignored_instances = InstanceData(bboxes=torch.empty(0, 4))
    return data_sample


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_parameter_gets_a_gradient(path):
    cfg = Config.fromfile(path)
    init_default_scope(cfg.default_scope)
    if "num_queries" in cfg.model:
        cfg.model.num_queries = 20  # a small image has few cells to propose
    try:
        # mmdet's losses keep weights that are no buffers.
        with torch.device("meta" if cfg.model.type == "DeformableDETR" else "cpu"):
            model = MODELS.build(cfg.model)
    except InputError as error:
        assert "compiled op of mmcv" in str(error)
        pytest.skip("DCN needs a compiled op, and mmcv is installed without them")
    model.to_empty(device="cpu").train()
    for tensor in model.state_dict().values():  # initialising them would take seconds
        tensor.fill_(0.01)

    for num_objects in (2, 0):
        samples = [sample(num_objects), sample(0)]
        try:
            losses = model(torch.rand(2, 3, SIZE, SIZE), samples, mode="loss")
        except NotImplementedError as error:
            assert "compiled op 'nms' of mmcv" in str(error)
            pytest.skip("Mask R-CNN needs compiled ops, and mmcv is installed without them")
        model.zero_grad()
        model.parse_losses(losses)[0].backward()
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, name
