"""What DINO (Zhang et al., ICLR 2023, arXiv 2203.03605) adds to Deformable DETR as modules of its own.

Its third idea, look forward twice, is a setting of the decoder. The registries of
``projects.deformable_detr`` find what is here by themselves.
"""

from . import denoising, mixed_queries  # noqa: F401
