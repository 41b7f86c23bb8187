"""Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159) for mmengine's Runner.

Importing this package registers everything in it.
"""

from .mmcv_ops import provide_missing_ops

# mmdet.models cannot be imported before this.
provide_missing_ops()

# ruff: noqa: E402, F401
from . import (
    amp,
    atomic_file,
    attention,
    backbone,
    bifpn,
    checkpoint,
    checkpoint_check,
    checkpoint_hook,
    class_check,
    coco_metric,
    dataset,
    decoder,
    detector,
    early_stopping,
    encoder,
    head,
    neck,
    parameter_groups,
    positional_encoding,
    pretrained,
    proposals,
    reproducibility,
    task_modules,
    transforms,
    val_loss,
)
