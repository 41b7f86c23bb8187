"""Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159) for mmengine's Runner.

Importing this package registers everything in it.
"""

from .mmcv_ops import provide_missing_ops

# mmdet.models cannot be imported before this.
provide_missing_ops()

# ruff: noqa: E402, F401
from . import (
    atomic_file,
    attention,
    backbone,
    bifpn,
    checkpoint,
    checkpoint_check,
    checkpoint_hook,
    class_check,
    coco_metric,
    data_file,
    data_sampler,
    dataset,
    dataset_report,
    decoder,
    detector,
    early_stopping,
    encoder,
    fsdp,
    head,
    log_processor,
    neck,
    optim_wrapper,
    parameter_groups,
    positional_encoding,
    pretrained,
    proposals,
    reproducibility,
    resume_check,
    seeded_items,
    task_modules,
    train_loop,
    transforms,
    val_loss,
)
