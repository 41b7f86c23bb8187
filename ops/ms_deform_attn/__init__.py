"""Multi-scale deformable attention (Deformable DETR, arXiv 2010.04159, section 4.1 and appendix A).

Needs torch alone. Its one name is ``ms_deform_attn``: a second import, say as ``ops.ms_deform_attn`` from the
root of the repository, would register the ops of torch twice.
"""

if __name__ != "ms_deform_attn":
    raise ImportError(f"import ms_deform_attn, not {__name__}")


from .functional import ms_deform_attn, ms_deform_attn_fused
from .module import MSDeformAttn
from .reference import ms_deform_attn_fused_reference, ms_deform_attn_reference

__all__ = [
    "MSDeformAttn",
    "ms_deform_attn",
    "ms_deform_attn_fused",
    "ms_deform_attn_fused_reference",
    "ms_deform_attn_reference",
]
