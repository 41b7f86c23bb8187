"""The functional entry."""

from collections.abc import Sequence

import torch
from torch import Tensor

from . import _library
from .reference import ms_deform_attn_reference


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[Sequence[int]],
    level_start_index: Tensor | Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
    im2col_step: int = 64,
) -> Tensor:
    """Multi-scale deformable attention (Deformable DETR, equation 3, without its projections).

    Each query takes the weighted sum of bilinear samples of each level. Samples mean what they mean to
    ``grid_sample(align_corners=False, padding_mode="zeros")``: (0, 0) is the outer corner of the first
    pixel, (1, 1) that of the last, and what lies outside a level is zero. An infinite location is outside;
    one that is NaN gives NaN.

    Half and bfloat16 tensors are computed in float32. On a GPU pass the level geometry as Python ints or
    as CPU tensors: reading it from the GPU makes the host wait.

    Args:
        value: (bs, num_value, num_heads, head_dims), the levels one after the other, rows first.
        spatial_shapes: (num_levels, 2), height and width of each level; int64 tensor or ints.
        level_start_index: (num_levels,), where each level starts in ``value``; int64 tensor or ints.
        sampling_locations: (bs, num_queries, num_heads, num_levels, num_points, 2), x and y in [0, 1]
            inside the level.
        attention_weights: (bs, num_queries, num_heads, num_levels, num_points).
        im2col_step: ignored; other implementations have it.

    Returns:
        (bs, num_queries, num_heads * head_dims), of the dtype of ``value``.

    Raises:
        ValueError: shapes or devices do not fit each other.
        TypeError: a dtype that is not floating point, or float64 mixed with another.
    """
    spatial_shapes = torch.as_tensor(spatial_shapes, dtype=torch.int64, device="cpu")
    level_start_index = torch.as_tensor(level_start_index, dtype=torch.int64, device="cpu")
    _check_shapes(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
    _check_dtypes(value, sampling_locations, attention_weights)

    dtype = torch.promote_types(value.dtype, torch.float32)
    forward = (
        torch.ops.ms_deform_attn.forward
        if _library.serves(value.device)
        else ms_deform_attn_reference
    )
    output = forward(
        value.to(dtype),
        spatial_shapes,
        level_start_index,
        sampling_locations.to(dtype),
        attention_weights.to(dtype),
    )
    return output.to(value.dtype)


def _check_shapes(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> None:
    if value.dim() != 4:
        raise ValueError(
            f"value must be (bs, num_value, num_heads, head_dims), got shape {tuple(value.shape)}"
        )
    if sampling_locations.dim() != 6 or sampling_locations.shape[-1] != 2:
        raise ValueError(
            "sampling_locations must be (bs, num_queries, num_heads, num_levels, num_points, 2), got "
            f"shape {tuple(sampling_locations.shape)}"
        )
    bs, _, num_heads, _ = value.shape
    num_queries, num_levels, num_points = (sampling_locations.shape[i] for i in (1, 3, 4))
    expected = {
        "sampling_locations": (bs, num_queries, num_heads, num_levels, num_points, 2),
        "attention_weights": (bs, num_queries, num_heads, num_levels, num_points),
        "spatial_shapes": (num_levels, 2),
        "level_start_index": (num_levels,),
    }
    given = {
        "sampling_locations": sampling_locations,
        "attention_weights": attention_weights,
        "spatial_shapes": spatial_shapes,
        "level_start_index": level_start_index,
    }
    for name, shape in expected.items():
        if tuple(given[name].shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape}, got {tuple(given[name].shape)}, where value has shape "
                f"{tuple(value.shape)} and sampling_locations {tuple(sampling_locations.shape)}"
            )
    for name in ("sampling_locations", "attention_weights"):
        if given[name].device != value.device:
            raise ValueError(f"{name} is on {given[name].device}, but value is on {value.device}")


def _check_dtypes(value: Tensor, sampling_locations: Tensor, attention_weights: Tensor) -> None:
    dtypes = {
        "value": value.dtype,
        "sampling_locations": sampling_locations.dtype,
        "attention_weights": attention_weights.dtype,
    }
    for name, dtype in dtypes.items():
        if not dtype.is_floating_point:
            raise TypeError(f"{name} must be of a floating point dtype, got {dtype}")
    if torch.float64 in dtypes.values() and len(set(dtypes.values())) > 1:
        raise TypeError(f"float64 does not mix with other dtypes: got {dtypes}")
