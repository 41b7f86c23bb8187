"""The name that the official repository compiles its op under: ``import MultiScaleDeformableAttention``."""

from ms_deform_attn.compat.vendored import ms_deform_attn_backward, ms_deform_attn_forward

__all__ = ["ms_deform_attn_backward", "ms_deform_attn_forward"]
