"""A model and an image, read to be looked at."""

from pathlib import Path

import torch
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch import nn

from projects.deformable_detr.registry import MODELS
from projects.reliable_runner.checks.weights import check_fits
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.checkpoint_file import read_checkpoint
from projects.reliable_runner.quiet import quiet

_META_KEYS = ("img_path", "ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")


def build_model(cfg: Config) -> nn.Module:
    """The model of a config, initialised, in evaluation mode; no pretrained backbone is fetched."""
    init_default_scope(cfg.get("default_scope", "mmdet"))
    model = MODELS.build(dict(cfg.model, backbone=dict(cfg.model.backbone, init_cfg=None)))
    with quiet():  # mmengine has a line for each parameter
        model.init_weights()
    return model.eval()


def load_weights(model: nn.Module, path: str | Path) -> dict:
    """Read all weights of a model, and return what else the checkpoint holds of its training (``meta``).

    Raises:
        InputError: the checkpoint can't be read, or its weights are of another model.
    """
    checkpoint = read_checkpoint(path)
    weights = checkpoint.get("state_dict", checkpoint)
    check_fits(path, weights, model)
    model.load_state_dict({key.removeprefix("module."): value for key, value in weights.items()})
    return checkpoint.get("meta", {})


def read_image(cfg: Config, path: str | Path) -> dict:
    """An image as the test pipeline of ``cfg`` makes it: a batch of one for the model's preprocessor.

    Raises:
        InputError: the file is missing or no image, or the pipeline does not end with ``PackDetInputs``.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: there is no such image")
    steps = [dict(step) for step in get_test_pipeline_cfg(cfg)]
    if not steps[-1]["type"].endswith("PackDetInputs"):
        raise InputError(
            f"{cfg.filename}: the test pipeline must end with PackDetInputs, not {steps[-1]['type']}; give "
            "the config without test-time augmentation"
        )
    # Whatever the config keeps, the way back to the original image needs these.
    steps[-1]["meta_keys"] = _META_KEYS
    packed = Compose(steps)(dict(img_path=str(path), img_id=0))
    return dict(inputs=[packed["inputs"]], data_samples=[packed["data_samples"]])


@torch.no_grad()
def predict(model: nn.Module, batch: dict) -> tuple[list, torch.Tensor, torch.Tensor]:
    """One forward.

    Args:
        model: in evaluation mode.
        batch: see `read_image`.

    Returns:
        The samples, and what the head gives: class logits (num_layers, bs, num_queries, num_classes) and
        boxes (num_layers, bs, num_queries, 4), cx, cy, w, h in [0, 1].
    """
    batch = model.data_preprocessor(batch)
    cls_scores, bbox_preds = model(**batch, mode="tensor")
    return batch["data_samples"], cls_scores, bbox_preds
