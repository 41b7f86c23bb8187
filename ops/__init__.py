"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1 and appendix A).

Needs torch alone.
"""

from .module import MSDeformAttn
from .ms_deform_attn import ms_deform_attn, ms_deform_attn_fused
from .reference import ms_deform_attn_fused_reference, ms_deform_attn_reference

__all__ = [
    "MSDeformAttn",
    "ms_deform_attn",
    "ms_deform_attn_fused",
    "ms_deform_attn_fused_reference",
    "ms_deform_attn_reference",
]
