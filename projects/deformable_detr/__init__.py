"""Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159) for mmengine's Runner.

Importing this package registers everything in it.
"""

from ms_deform_attn.compat.mmcv_ops import provide_missing_ops

# mmdet.models cannot be imported before this.
provide_missing_ops()

# ruff: noqa: E402, F401
from . import (
    attention,
    decoder,
    detector,
    encoder,
    head,
    losses,
    matching,
    neck,
    positional_encoding,
    queries,
    variants,
)
