"""Attention as a map over the image."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ms_deform_attn import ms_deform_attn_reference

from .record import Attention, DenseAttention, SampledAttention


def attention_map(
    attention: Attention,
    queries: Sequence[int] | Tensor,
    heads: Sequence[int] | slice = slice(None),
) -> Tensor:
    """How much attention each place of the first image gets, on average over queries and heads.

    Deformable attention gives its weights to the cells that it interpolates between; maps of coarser levels
    are enlarged to the finest one and added.

    Args:
        attention: of one layer.
        queries: indices of queries.
        heads: indices of heads.

    Returns:
        (h, w), the image without padding, as multiples of attention that is spread evenly over the image.
    """
    shapes = [_valid_shape(mask[0]) for mask in attention.masks]
    if isinstance(attention, DenseAttention):
        weights = attention.weights[0, queries][:, heads].flatten(0, 1).mean(0)
        (h, w), cells = shapes[0], weights.view(attention.masks[0].shape[1:])
        return cells[:h, :w] * (h * w)
    maps = [
        F.interpolate(cells[None, None] * cells.numel(), shapes[0], mode="bilinear")[0, 0]
        for cells in _cells_of_samples(attention, shapes, queries, heads)
    ]
    return torch.stack(maps).sum(0)


def _valid_shape(mask: Tensor) -> tuple[int, int]:
    return int((~mask[:, 0]).sum()), int((~mask[0]).sum())


@torch.enable_grad()
def _cells_of_samples(
    attention: SampledAttention,
    shapes: Sequence[tuple[int, int]],
    queries: Sequence[int] | Tensor,
    heads: Sequence[int] | slice,
) -> list[Tensor]:
    """The share of the attention that each cell gets, (h, w) for each level.

    The output of the op is linear in its value, so the weight of a cell is the gradient of the cell's value.
    """
    weights = attention.weights[:1, queries][:, :, heads]
    locations = attention.locations[:1, queries][:, :, heads]
    sizes = [h * w for h, w in shapes]
    value = weights.new_zeros(1, sum(sizes), weights.shape[2], 1, requires_grad=True)
    starts = [sum(sizes[:level]) for level in range(len(sizes))]
    output = ms_deform_attn_reference(value, shapes, starts, locations, weights).mean()
    (gradient,) = torch.autograd.grad(output, value)
    cells = gradient.sum((0, 2, 3)).split(sizes)
    return [level.view(shape) for level, shape in zip(cells, shapes, strict=True)]
