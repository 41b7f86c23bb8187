"""Deformable DETR (Zhu et al., ICLR 2021, arXiv 2010.04159) for mmengine's Runner.

Importing this package registers everything in it.
"""

from .mmcv_ops import provide_missing_ops

provide_missing_ops()
