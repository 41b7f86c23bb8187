"""The op in plain PyTorch: the oracle of the tests, and the way without the built extension."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def ms_deform_attn_reference(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[Sequence[int]],
    level_start_index: Tensor | Sequence[int],
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Multi-scale deformable attention through `torch.nn.functional.grid_sample`.

    Takes and returns what `ms_deform_attn` does, in any dtype and on any device that `grid_sample` serves;
    gradients come from autograd.

    Raises:
        ValueError: a level exceeds the value.
    """
    bs, num_value, num_heads, head_dims = value.shape
    _, num_queries, _, num_levels, num_points, _ = sampling_locations.shape
    levels = zip(_ints(spatial_shapes), _ints(level_start_index), strict=True)
    # All beyond -2 and 2 is outside any level; grid_sample would turn infinity into NaN.
    grids = (2 * sampling_locations - 1).clamp(-3, 3).transpose(1, 2).flatten(0, 1)

    samples = []
    for level, ((height, width), start) in enumerate(levels):
        end = start + height * width
        if min(height, width) < 1 or start < 0 or end > num_value:
            raise ValueError(
                f"level {level} of shape ({height}, {width}) that starts at {start} exceeds the value, "
                f"which has {num_value} positions"
            )
        image = value[:, start:end].permute(0, 2, 3, 1).reshape(-1, head_dims, height, width)
        grid = grids[:, :, level]  # (bs * num_heads, num_queries, num_points, 2)
        samples.append(F.grid_sample(image, grid, padding_mode="zeros", align_corners=False))

    # (bs * num_heads, head_dims, num_queries, num_levels * num_points)
    sampled = torch.cat(samples, dim=-1)
    weights = attention_weights.transpose(1, 2).reshape(
        bs * num_heads, 1, num_queries, num_levels * num_points
    )
    output = (sampled * weights).sum(-1).view(bs, num_heads * head_dims, num_queries)
    return output.transpose(1, 2).contiguous()


def ms_deform_attn_fused_reference(
    value: Tensor,
    spatial_shapes: Tensor | Sequence[Sequence[int]],
    level_start_index: Tensor | Sequence[int],
    reference_points: Tensor,
    sampling_offsets: Tensor,
    attention_logits: Tensor,
) -> Tensor:
    """What `ms_deform_attn.ms_deform_attn_fused` computes, step by step; see there.

    Raises:
        ValueError: a level exceeds the value.
    """
    points = reference_points[:, :, None, :, None]
    if points.shape[-1] == 2:
        width_height = as_integers(spatial_shapes, points.device).flip(-1)
        locations = points + sampling_offsets / width_height[:, None]
    else:
        steps = points[..., 2:] * (0.5 / sampling_offsets.shape[4])
        locations = points[..., :2] + sampling_offsets * steps
    weights = attention_logits.flatten(3).softmax(-1).view_as(attention_logits)
    return ms_deform_attn_reference(value, spatial_shapes, level_start_index, locations, weights)


def as_integers(numbers: Tensor | Sequence, device: torch.device | str) -> Tensor:
    """Level geometry as a tensor; sizes that a graph leaves open (``torch.export``) stay open in it."""
    if isinstance(numbers, torch.SymInt):
        return torch.scalar_tensor(numbers, dtype=torch.int64, device=device)
    if not isinstance(numbers, Tensor) and _is_open(numbers):
        return torch.stack([as_integers(number, device) for number in numbers])
    return torch.as_tensor(numbers, device=device)


def _is_open(numbers: Sequence | int) -> bool:
    if isinstance(numbers, Sequence):
        return any(map(_is_open, numbers))
    return isinstance(numbers, torch.SymInt)


def _ints(geometry: Tensor | Sequence) -> list:
    return geometry.tolist() if isinstance(geometry, Tensor) else list(geometry)
