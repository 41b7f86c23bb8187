"""Maps against sums by hand."""

import torch

from projects.attention_viewer.heat import attention_map
from projects.attention_viewer.record import DenseAttention, SampledAttention


def mask(h: int, w: int, valid_h: int, valid_w: int) -> torch.Tensor:
    padding = torch.ones(1, h, w, dtype=torch.bool)
    padding[:, :valid_h, :valid_w] = False
    return padding


def test_dense_map_is_the_valid_cells():
    weights = torch.zeros(1, 2, 2, 12)
    weights[0, 1, 0, 5] = 1  # row 1, column 1 of 3 x 4 cells
    weights[0, 1, 1, 0] = 1
    attention = DenseAttention([mask(3, 4, 2, 3)], weights)
    both = attention_map(attention, [1])
    assert both.tolist() == [[3, 0, 0], [0, 3, 0]] and both.mean() == 1
    assert attention_map(attention, [1], [0]).tolist() == [[0, 0, 0], [0, 6, 0]]


def sampled(locations: list, weights: list) -> SampledAttention:
    """One query and head, one point a level; levels of 2 x 4 and 1 x 2 valid cells."""
    masks = [mask(4, 4, 2, 4), mask(2, 2, 1, 2)]
    locations = torch.tensor(locations)[None, None, None, :, None]
    weights = torch.tensor(weights)[None, None, None, :, None]
    return SampledAttention(masks, weights, locations, locations[:, :, 0, 0, 0])


def test_a_sample_in_the_middle_of_a_cell_is_that_cell():
    heat = attention_map(sampled([[0.625, 0.75], [0.25, 0.5]], [1.0, 0.0]), [0])
    expected = torch.zeros(2, 4)
    expected[1, 2] = 8
    torch.testing.assert_close(heat, expected)


def test_a_sample_between_cells_is_shared_by_distance():
    heat = attention_map(sampled([[0.5 + 1 / 16, 0.75], [0.25, 0.5]], [1.0, 0.0]), [0])
    expected = torch.zeros(2, 4)
    expected[1, 1], expected[1, 2] = 2, 6
    torch.testing.assert_close(heat, expected)


def test_coarse_levels_are_added_with_the_same_mass():
    heat = attention_map(sampled([[0.625, 0.75], [0.25, 0.5]], [0.5, 0.5]), [0])
    coarse = torch.tensor([2.0, 1.5, 0.5, 0.0]).repeat(2, 1) / 2  # bilinear, half of the attention
    coarse[1, 2] += 4
    torch.testing.assert_close(heat, coarse)
    assert heat.mean() == 1


def test_what_is_outside_the_image_is_nowhere():
    assert attention_map(sampled([[1.5, 0.5], [0.5, -0.6]], [0.5, 0.5]), [0]).sum() == 0
