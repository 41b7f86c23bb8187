"""Deformable attention against one that computes each query, head and point by itself."""

import math
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from projects.dat.attention import DeformableAttention


def bilinear(maps: Tensor, y: float, x: float) -> Tensor:
    """Value of (channels, h, w) at fractional indices; zero outside."""
    value = maps.new_zeros(maps.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < maps.shape[1] and 0 <= column < maps.shape[2]:
                value = value + (1 - abs(y - row)) * (1 - abs(x - column)) * maps[:, row, column]
    return value


def slow_points(attention: DeformableAttention, query: Tensor) -> list:
    """The points (y, x), in [-1, 1], of a group's queries (width, h, w), by the formulas of section 3.2."""
    depthwise, norm, _, last = attention.conv_offset
    maps = depthwise(query[None])[0].movedim(0, -1)
    maps = F.gelu(F.layer_norm(maps, maps.shape[-1:], norm.norm.weight, norm.norm.bias))
    rows, columns = maps.shape[:2]
    factor = attention.offset_range_factor
    points = []
    for row, column in product(range(rows), range(columns)):
        dy, dx = (last.weight[:, :, 0, 0] @ maps[row, column]).tolist()
        y, x = 2 * (row + 0.5) / rows - 1, 2 * (column + 0.5) / columns - 1
        points.append((y + factor * math.tanh(dy) / rows, x + factor * math.tanh(dx) / columns))
    return points


def slow_attention(attention: DeformableAttention, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Output (channels, h, w), points as indices x, y (groups, points, 2), weights (heads, h * w, points)."""
    height, width = image.shape[1:]
    heads, groups, table = attention.num_heads, attention.num_groups, attention.rpe_table
    query = attention.proj_q(image[None])[0]
    points = [slow_points(attention, part) for part in query.chunk(groups)]
    indices = [[((y + 1) / 2 * (height - 1), (x + 1) / 2 * (width - 1)) for y, x in of] for of in points]
    sampled = [
        [bilinear(part, *at) for at in of] for part, of in zip(image.chunk(groups), indices, strict=True)
    ]
    sampled = torch.cat([torch.stack(of, 1) for of in sampled])[None, :, :, None]
    keys, values = (project(sampled)[0, :, :, 0] for project in (attention.proj_k, attention.proj_v))
    mixed = torch.zeros_like(image)
    weights = []
    for head, (q, k, v, out) in enumerate(
        zip(*(x.chunk(heads) for x in (query, keys, values, mixed)), strict=True)
    ):
        for row, column in product(range(height), range(width)):
            logits = q[:, row, column] @ k / math.sqrt(len(q))
            for n, (y, x) in enumerate(points[head * groups // heads]):
                # A displacement of the whole map, 2, is at the table's border.
                dy, dx = (2 * (row + 0.5) / height - 1 - y) / 2, (2 * (column + 0.5) / width - 1 - x) / 2
                half_y, half_x = (table.shape[1] - 1) / 2, (table.shape[2] - 1) / 2
                logits[n] += bilinear(table[head, None], (1 + dy) * half_y, (1 + dx) * half_x)[0]
            weights.append(logits.softmax(0))
            out[:, row, column] = v @ weights[-1]
    output = attention.proj_out(mixed[None])[0]
    return output, torch.tensor(indices).double().flip(-1), torch.stack(weights).unflatten(0, (heads, -1))


def build(**kwargs) -> DeformableAttention:
    """Small, in float64, with offsets and biases large enough to matter."""
    torch.manual_seed(0)
    sizes = dict(channels=8, num_heads=4, num_groups=2, map_size=4)
    attention = DeformableAttention(**(sizes | kwargs)).double()
    torch.nn.init.normal_(attention.conv_offset[-1].weight, std=1.0)
    torch.nn.init.normal_(attention.rpe_table)
    return attention


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        (dict(), (4, 4)),
        (dict(), (3, 6)),
        (dict(stride=2, kernel_size=5, offset_range_factor=5), (5, 4)),
        (dict(num_groups=1), (3, 5)),
        (dict(num_groups=4), (3, 5)),
    ],
    ids=str,
)
def test_is_attention_to_sampled_points(kwargs, size):
    attention = build(**kwargs)
    x = torch.randn(2, 8, *size, dtype=torch.double)
    tokens = [0, 7, 14]
    with torch.no_grad():
        output, points, weights = map(
            torch.stack, zip(*(slow_attention(attention, image) for image in x), strict=True)
        )
        torch.testing.assert_close(attention(x), output)
        seen = attention.points_and_weights(x, tokens)
    torch.testing.assert_close(seen.points, points + 0.5)  # whose unit is a token's side
    torch.testing.assert_close(seen.weights, weights[:, :, tokens])


def test_grid_is_where_points_are_that_do_not_move():
    x = torch.randn(1, 8, 3, 5, dtype=torch.double)
    grid, points, _ = build(offset_range_factor=0).points_and_weights(x, [])
    assert torch.equal(points, grid.expand_as(points))
    # Centres as grid_sample stretches them, whose -1 and 1 are the centres of the outer tokens.
    assert grid[:5, 0].tolist() == pytest.approx([0.9, 1.7, 2.5, 3.3, 4.1])
    assert grid[::5, 1].tolist() == pytest.approx([5 / 6, 1.5, 13 / 6])


@pytest.mark.parametrize("max_bias_elements", [1, 2 * 4 * 15 * 4, 2 * 4 * 15 * 15, None])
def test_parts_of_the_queries_give_what_all_give(max_bias_elements):
    """One query at a time, four, all: outputs and gradients are the same."""
    whole, parts = build(), build(max_bias_elements=max_bias_elements)
    x = torch.randn(2, 8, 3, 5, dtype=torch.double)
    results = []
    for attention in (whole, parts):
        inputs = x.clone().requires_grad_()
        out = attention(inputs)
        out.square().sum().backward()
        results.append((out, inputs.grad, *(p.grad for p in attention.parameters())))
    torch.testing.assert_close(results[1], results[0])
    with torch.no_grad():
        torch.testing.assert_close(parts(x), whole(x))


def test_gradients_are_those_of_finite_differences():
    attention = build(stride=2, num_heads=2)
    x = torch.randn(1, 8, 4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (x,))


def test_points_stay_within_their_range():
    """Factor 2 is one step of the grid to each side."""
    attention = build(stride=2)
    query = 100 * torch.randn(3, 8, 8, 12, dtype=torch.double)
    still = build(stride=2, offset_range_factor=0).points(query)
    moved = attention.points(query) - still
    assert moved.shape == (3, 2, 4, 6, 2)
    step = torch.tensor([2 / 6, 2 / 4], dtype=torch.double)
    assert (moved.abs() <= step).all() and (moved.abs() > 0.5 * step).any()
    assert attention.points(query, dtype=torch.float32).dtype == torch.float32


def test_bias_fits_every_size():
    """A constant table is a constant bias, which a softmax does not see."""
    x = torch.randn(1, 8, 7, 5, dtype=torch.double)
    attention = build(offset_range_factor=0)
    outputs = []
    for value in (0.0, 2.0):
        torch.nn.init.constant_(attention.rpe_table, value)
        outputs.append(attention(x))
    torch.testing.assert_close(*outputs)


def test_relative_bias_of_another_pretraining_size_is_resized():
    small, large = build(map_size=4), build(map_size=7)
    torch.nn.init.constant_(small.rpe_table, 3.0)
    large.load_state_dict(small.state_dict(), strict=True)
    torch.testing.assert_close(large.rpe_table, torch.full_like(large.rpe_table, 3.0))
