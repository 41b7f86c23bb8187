"""The functional entries."""

from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from operator import index

import torch
from torch import Tensor

from . import _library
from .reference import as_integers, ms_deform_attn_fused_reference, ms_deform_attn_reference


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

    Half and bfloat16 values are read as they are; all arithmetic is float32. Locations better stay
    float32: a float16 one is up to 0.04 pixels off at a width of 167, a bfloat16 one 0.3. On a GPU pass
    the level geometry as Python ints or as CPU tensors: reading it from the GPU makes the host wait.

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
        TypeError: no tensor, a dtype that is not floating point, float64 mixed with another, or shapes or
            starts of levels that are not integers.
    """
    return _run(
        "forward",
        ms_deform_attn_reference,
        value,
        (spatial_shapes, level_start_index),
        sampling_locations=sampling_locations,
        attention_weights=attention_weights,
    )


def sample_levels(
    value: Tensor,
    value_spatial_shapes: Tensor | Sequence[Sequence[int]],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """`ms_deform_attn` for code bases that do not say where the levels start, as they follow each other."""
    shapes = [(index(height), index(width)) for height, width in value_spatial_shapes]
    starts = [0, *accumulate(height * width for height, width in shapes)][:-1]
    return ms_deform_attn(value, shapes, starts, sampling_locations, attention_weights)


def ms_deform_attn_fused(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[Sequence[int]],
    level_start_index: Tensor | Sequence[int],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """`ms_deform_attn` from what a network predicts, with neither locations nor weights in memory.

    The weights are the softmax of the logits over all levels and points of a head. With points as
    reference, offsets are in pixels of each level; with boxes, in halves of the box's width and height
    divided by ``num_points`` (appendix A.4), so that offset ``num_points`` reaches the edge.

    Args:
        value: as for `ms_deform_attn`, as are the two that follow.
        spatial_shapes: (num_levels, 2).
        level_start_index: (num_levels,).
        reference_points: (bs, num_queries, num_levels, 2), points (x, y), or
            (bs, num_queries, num_levels, 4), boxes (cx, cy, w, h); all in [0, 1].
        sampling_offsets: (bs, num_queries, num_heads, num_levels, num_points, 2), x and y.
        attention_logits: (bs, num_queries, num_heads, num_levels, num_points).

    Returns:
        (bs, num_queries, num_heads * head_dims), of the dtype of ``value``.

    Raises:
        ValueError: shapes or devices do not fit each other.
        TypeError: as for `ms_deform_attn`.
    """
    return _run(
        "fused_forward",
        ms_deform_attn_fused_reference,
        value,
        (spatial_shapes, level_start_index),
        reference_points=reference_points,
        sampling_offsets=sampling_offsets,
        attention_logits=attention_logits,
    )


def _run(
    op_name: str,
    reference: Callable[..., Tensor],
    value: Tensor,
    geometry: tuple[Tensor | Sequence, Tensor | Sequence],
    **sampling: Tensor,
) -> Tensor:
    host_geometry = checked_geometry(value, geometry, sampling)
    if not _library.serves(value.device):
        dtype = torch.promote_types(value.dtype, torch.float32)
        others = (tensor.to(dtype) for tensor in sampling.values())
        output = reference(value.to(dtype), *geometry, *others)
        return output.to(value.dtype)
    dtype = common_dtype(value, sampling.values())
    op = getattr(torch.ops.ms_deform_attn, op_name)
    others = (tensor.to(dtype) for tensor in sampling.values())
    return op(value, *host_geometry, *others)


def checked_geometry(
    value: Tensor,
    geometry: tuple[Tensor | Sequence, Tensor | Sequence],
    sampling: dict[str, Tensor],
    **output_gradient: Tensor,
) -> list[Tensor]:
    """Shapes and starts of the levels as the kernels take them: int64 tensors on the CPU.

    Raises:
        ValueError, TypeError: the inputs do not fit each other, see `ms_deform_attn`.
    """
    others = sampling | output_gradient
    _check_dtypes({"value": value} | others)
    host_geometry = {}
    for name, numbers in zip(("spatial_shapes", "level_start_index"), geometry, strict=True):
        if numbers is None:
            raise TypeError(f"{name} must be integers, got None")
        tensor = as_integers(numbers, "cpu")
        if tensor.is_floating_point():
            raise TypeError(f"{name} must be integers, got {tensor.dtype}")
        host_geometry[name] = tensor.to(torch.int64)
    _check_shapes(value, host_geometry, sampling, output_gradient)
    for name, tensor in others.items():
        if tensor.device != value.device:
            raise ValueError(f"{name} is on {tensor.device}, but value is on {value.device}")
    return list(host_geometry.values())


def common_dtype(value: Tensor, sampling: Iterable[Tensor]) -> torch.dtype:
    """The one dtype that the kernels take for all that is not the value."""
    if all(tensor.dtype == value.dtype for tensor in sampling):
        return value.dtype
    return torch.promote_types(value.dtype, torch.float32)


def _check_shapes(
    value: Tensor,
    geometry: dict[str, Tensor],
    sampling: dict[str, Tensor],
    output_gradient: dict[str, Tensor],
) -> None:
    if value.dim() != 4:
        raise ValueError(
            f"value must be (bs, num_value, num_heads, head_dims), got shape {tuple(value.shape)}"
        )
    *first, coordinates_name, weights_name = sampling
    coordinates = sampling[coordinates_name]
    if coordinates.dim() != 6 or coordinates.shape[-1] != 2:
        raise ValueError(
            f"{coordinates_name} must be (bs, num_queries, num_heads, num_levels, num_points, 2), got "
            f"shape {tuple(coordinates.shape)}"
        )
    bs, _, num_heads, head_dims = value.shape
    _, num_queries, _, num_levels, num_points, _ = coordinates.shape
    expected = {
        coordinates_name: (bs, num_queries, num_heads, num_levels, num_points, 2),
        weights_name: (bs, num_queries, num_heads, num_levels, num_points),
        "spatial_shapes": (num_levels, 2),
        "level_start_index": (num_levels,),
    }
    expected |= dict.fromkeys(output_gradient, (bs, num_queries, num_heads * head_dims))
    given = sampling | geometry | output_gradient
    for name, shape in expected.items():
        if tuple(given[name].shape) != shape:
            raise ValueError(
                f"{name} must have shape {shape}, got {tuple(given[name].shape)}, where value has shape "
                f"{tuple(value.shape)} and {coordinates_name} {tuple(coordinates.shape)}"
            )
    for name in first:
        shape = tuple(given[name].shape)
        if shape[:-1] != (bs, num_queries, num_levels) or shape[-1] not in (2, 4):
            raise ValueError(
                f"{name} must be (bs, num_queries, num_levels, 2 or 4), here ({bs}, {num_queries}, "
                f"{num_levels}, 2 or 4), got shape {shape}"
            )


def _check_dtypes(tensors: dict[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} must be of a floating point dtype, got {tensor.dtype}")
    dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
    if torch.float64 in dtypes.values() and len(set(dtypes.values())) > 1:
        raise TypeError(f"float64 does not mix with other dtypes: got {dtypes}")
