"""Attention as a map over the image."""

from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from ms_deform_attn import ms_deform_attn_reference

from .record import Attention


def attention_map(
    attention: Attention, queries: Sequence[int] | Tensor, heads: Sequence[int] | slice = slice(None)
) -> Tensor:
    """How much attention each place of the first image gets, on average over queries and heads.

    Deformable attention gives its weights to the tokens that it interpolates between; maps of coarser levels
    are enlarged to the finest one and added.

    Returns:
        (h, w), the image without padding, as multiples of attention that is spread evenly over the image.
    """
    shapes = attention.valid_shapes
    weights = attention.weights[:1, queries][:, :, heads]
    if attention.locations is None:
        h, w = shapes[0]
        levels = [weights.flatten(0, 2).mean(0).view(attention.masks[0].shape[1:])[:h, :w]]
    else:
        levels = _weights_of_tokens(weights, attention.locations[:1, queries][:, :, heads], shapes)
    maps = [
        F.interpolate(level[None, None] * level.numel(), shapes[0], mode="bilinear")[0, 0] for level in levels
    ]
    return torch.stack(maps).sum(0)


@torch.enable_grad()
def _weights_of_tokens(weights: Tensor, locations: Tensor, shapes: Sequence[tuple[int, int]]) -> list[Tensor]:
    """The share of the attention that each token gets, (h, w) for each level.

    The op's output is linear in its value, so the weight of a token is the gradient of the token's value.
    """
    sizes = [h * w for h, w in shapes]
    starts = [0, *accumulate(sizes[:-1])]
    value = weights.new_zeros(1, sum(sizes), weights.shape[2], 1, requires_grad=True)
    output = ms_deform_attn_reference(value, shapes, starts, locations, weights).mean()
    (gradient,) = torch.autograd.grad(output, value)
    tokens = gradient.sum((0, 2, 3)).split(sizes)
    return [level.view(shape) for level, shape in zip(tokens, shapes, strict=True)]
