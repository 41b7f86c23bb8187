"""Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159) for mmengine's Runner.

Importing this package registers everything in it.
"""

from .mmcv_ops import provide_missing_ops

# mmdet.models cannot be imported before this.
provide_missing_ops()

# ruff: noqa: E402, F401
from . import (
    amp,
    attention,
    backbone,
    bifpn,
    checkpoint,
    checkpoint_check,
    class_check,
    coco_metric,
    data_file,
    dataset,
    decoder,
    detector,
    encoder,
    head,
    neck,
    parameter_groups,
    positional_encoding,
    pretrained,
    proposals,
    reproducibility,
    resume_check,
    task_modules,
    transforms,
)
