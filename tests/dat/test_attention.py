"""Deformable attention against one that computes each query, head and point by itself."""

import math

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


def slow_points(attention: DeformableAttention, query: Tensor, group: int) -> list:
    """The points (y, x), in [-1, 1], of a group of one image, by the formulas of section 3.2."""
    width = query.shape[0] // attention.num_groups
    part = query[group * width : (group + 1) * width]
    depthwise, norm, _, last = attention.conv_offset
    x = F.conv2d(
        part[None],
        depthwise.weight,
        depthwise.bias,
        depthwise.stride,
        depthwise.padding,
        groups=width,
    )[0]
    rows, columns = x.shape[1:]
    points = []
    for row in range(rows):
        for column in range(columns):
            cell = F.gelu(F.layer_norm(x[:, row, column], (width,), norm.norm.weight, norm.norm.bias))
            dy, dx = last.weight[:, :, 0, 0] @ cell
            y, x_ = 2 * (row + 0.5) / rows - 1, 2 * (column + 0.5) / columns - 1
            factor = attention.offset_range_factor
            if not attention.with_offset:
                points.append((y, x_))
            elif factor is None:
                points.append((math.tanh(y + dy), math.tanh(x_ + dx)))
            else:
                y, x_ = y + factor * math.tanh(dy) / rows, x_ + factor * math.tanh(dx) / columns
                points.append((y, x_))
    return points


def slow_attention(attention: DeformableAttention, x: Tensor) -> Tensor:
    """The output for one image (channels, h, w)."""
    channels, height, width = x.shape
    heads, groups = attention.num_heads, attention.num_groups
    head_dims, group_dims = channels // heads, channels // groups

    def project(layer, vector):
        return layer.weight[:, :, 0, 0] @ vector + layer.bias

    query = torch.stack([project(attention.proj_q, v) for v in x.flatten(1).T]).T.reshape(x.shape)
    points = [slow_points(attention, query, group) for group in range(groups)]
    keys, values = [], []
    for point in zip(*points, strict=True):  # this point of each group
        sampled = torch.cat(
            [
                bilinear(part, (y + 1) / 2 * (height - 1), (x_ + 1) / 2 * (width - 1))
                for part, (y, x_) in zip(x.split(group_dims), point, strict=True)
            ]
        )
        keys.append(project(attention.proj_k, sampled))
        values.append(project(attention.proj_v, sampled))
    local = query
    if attention.position_bias == "conv":
        conv = attention.rpe_table
        local = F.conv2d(query[None], conv.weight, conv.bias, padding=1, groups=channels)[0]
    out = torch.zeros_like(x)
    for row in range(height):
        for column in range(width):
            mixed = []
            for head in range(heads):
                part = slice(head * head_dims, (head + 1) * head_dims)
                logits = []
                for n, (y, x_) in enumerate(points[head * groups // heads]):
                    logit = query[part, row, column] @ keys[n][part] / math.sqrt(head_dims)
                    if attention.position_bias == "relative":
                        table = attention.rpe_table[head : head + 1]
                        # A displacement of the whole map, 2, is at the table's border.
                        dy = (2 * (row + 0.5) / height - 1 - y) / 2
                        dx = (2 * (column + 0.5) / width - 1 - x_) / 2
                        half_y, half_x = (table.shape[1] - 1) / 2, (table.shape[2] - 1) / 2
                        logit = logit + bilinear(table, (1 + dy) * half_y, (1 + dx) * half_x)[0]
                    elif attention.position_bias == "fixed":
                        logit = logit + attention.rpe_table[head, row * width + column, n]
                    logits.append(logit)
                weights = torch.stack(logits).softmax(0)
                mixed.append(sum(w * v[part] for w, v in zip(weights, values, strict=True)))
            mixed = torch.cat(mixed)
            if attention.position_bias == "conv":
                mixed = mixed + local[:, row, column]
            out[:, row, column] = project(attention.proj_out, mixed)
    return out


def build(**kwargs) -> DeformableAttention:
    """Small, in float64, with offsets and biases large enough to matter."""
    torch.manual_seed(0)
    sizes = dict(channels=8, num_heads=4, num_groups=2, map_size=4)
    attention = DeformableAttention(**(sizes | kwargs)).double()
    torch.nn.init.normal_(attention.conv_offset[-1].weight, std=1.0)
    if isinstance(attention.rpe_table, torch.nn.Parameter):
        torch.nn.init.normal_(attention.rpe_table)
    return attention


@pytest.mark.parametrize(
    ("kwargs", "size"),
    [
        (dict(), (4, 4)),
        (dict(), (3, 6)),
        (dict(stride=2, kernel_size=5, offset_range_factor=5), (5, 4)),
        (dict(offset_range_factor=None), (3, 5)),
        (dict(with_offset=False), (3, 5)),
        (dict(position_bias=None), (3, 5)),
        (dict(position_bias="conv", num_groups=1), (3, 5)),
        (dict(position_bias="fixed", num_groups=4), (4, 4)),
        (dict(position_bias="fixed", stride=2), (4, 4)),
    ],
    ids=str,
)
def test_is_attention_to_sampled_points(kwargs, size):
    attention = build(**kwargs)
    x = torch.randn(2, 8, *size, dtype=torch.double)
    with torch.no_grad():
        expected = torch.stack([slow_attention(attention, image) for image in x])
        torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("position_bias", [None, "relative", "fixed", "conv"])
@pytest.mark.parametrize("stride", [1, 2])
def test_points_and_weights_are_those_of_the_output(position_bias, stride):
    """What a cell sees, put together from the points and weights alone, is what forward makes of it."""
    attention = build(position_bias=position_bias, stride=stride)
    x = torch.randn(2, 8, 3, 5, dtype=torch.double)
    cells = [0, 7, 14]
    grid, points, weights = attention.points_and_weights(x, cells)
    assert grid.shape == points.shape[2:] and weights.shape == (2, 4, 3, len(grid))
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 4, 3, dtype=torch.double))
    sampled = torch.stack(
        [
            torch.stack([bilinear(part, y - 0.5, x - 0.5) for x, y in places.tolist()], -1)
            for image, groups in zip(x, points, strict=True)
            for part, places in zip(image.split(4), groups, strict=True)
        ]
    ).view(2, 8, len(grid), 1)
    values = attention.proj_v(sampled).view(2, 4, 2, -1)  # of each head
    mixed = torch.einsum("bhqp,bhcp->bhcq", weights, values).reshape(2, 8, 3, 1)
    if position_bias == "conv":
        mixed = mixed + attention.rpe_table(attention.proj_q(x)).flatten(2)[:, :, cells, None]
    expected = attention(x).flatten(2)[:, :, cells]
    torch.testing.assert_close(attention.proj_out(mixed)[..., 0], expected)


def test_grid_is_where_points_are_that_do_not_move():
    x = torch.randn(1, 8, 3, 5, dtype=torch.double)
    grid, points, _ = build(with_offset=False).points_and_weights(x, [])
    assert torch.equal(points, grid.expand_as(points))
    # Cell centres as grid_sample stretches them, whose -1 and 1 are the centres of the outer cells.
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


@pytest.mark.parametrize("position_bias", [None, "relative", "fixed", "conv"])
def test_gradients_are_those_of_finite_differences(position_bias):
    attention = build(position_bias=position_bias, stride=2, num_heads=2)
    x = torch.randn(1, 8, 4, 3, dtype=torch.double, requires_grad=True)
    assert torch.autograd.gradcheck(attention, (x,))


def test_offsets_learn_only_where_there_are_any():
    assert all(p.requires_grad for p in build().parameters())
    fixed = build(with_offset=False)
    frozen = {name for name, p in fixed.named_parameters() if not p.requires_grad}
    assert frozen == {f"conv_offset.{name}" for name, _ in fixed.conv_offset.named_parameters()}


def test_points_stay_within_their_range():
    """Factor 2 is one cell of the grid to each side."""
    attention = build(stride=2)
    query = 100 * torch.randn(3, 8, 8, 12, dtype=torch.double)
    still = build(stride=2, with_offset=False).points(query)
    moved = attention.points(query) - still
    assert moved.shape == (3, 2, 4, 6, 2)
    cell = torch.tensor([2 / 6, 2 / 4], dtype=torch.double)
    assert (moved.abs() <= cell).all() and (moved.abs() > 0.5 * cell).any()
    assert attention.points(query, dtype=torch.float32).dtype == torch.float32


def test_biases_fit_every_size():
    """A constant table is a constant bias, which a softmax does not see."""
    x = torch.randn(1, 8, 7, 5, dtype=torch.double)
    for position_bias in ("relative", "fixed"):
        attention = build(position_bias=position_bias, offset_range_factor=0)
        plain = build(position_bias=None, offset_range_factor=0)
        torch.nn.init.constant_(attention.rpe_table, 2.0)
        plain.load_state_dict(
            {key: value for key, value in attention.state_dict().items() if key != "rpe_table"}
        )
        torch.testing.assert_close(attention(x), plain(x))


def test_relative_bias_of_another_pretraining_size_is_resized():
    small, large = build(map_size=4), build(map_size=7)
    torch.nn.init.constant_(small.rpe_table, 3.0)
    large.load_state_dict(small.state_dict(), strict=True)
    torch.testing.assert_close(large.rpe_table, torch.full_like(large.rpe_table, 3.0))
