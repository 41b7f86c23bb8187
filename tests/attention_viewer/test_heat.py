"""Maps against sums by hand."""

import pytest
import torch

from projects.attention_viewer.heat import attention_map
from projects.attention_viewer.record import Attention


def mask(h: int, w: int, valid_h: int, valid_w: int) -> torch.Tensor:
    padding = torch.ones(1, h, w, dtype=torch.bool)
    padding[:, :valid_h, :valid_w] = False
    return padding


def test_dense_map_is_the_valid_tokens():
    weights = torch.zeros(1, 2, 2, 12)
    weights[0, 1, 0, 5] = 1  # row 1, column 1 of 3 x 4 tokens
    weights[0, 1, 1, 0] = 1
    attention = Attention([mask(3, 4, 2, 3)], weights)
    both = attention_map(attention, [1])
    assert both.tolist() == [[3, 0, 0], [0, 3, 0]] and both.mean() == 1
    assert attention_map(attention, [1], [0]).tolist() == [[0, 0, 0], [0, 6, 0]]


# Bilinear: the coarse level's sample, with half of the attention, enlarged; and the fine level's.
COARSE = [[1.0, 0.75, 0.25, 0], [1, 0.75, 4.25, 0]]


@pytest.mark.parametrize(
    ("locations", "weights", "expected"),
    [
        ([[0.625, 0.75], [0.25, 0.5]], [1.0, 0], [[0, 0, 0, 0], [0, 0, 8, 0]]),  # in the middle of a token
        ([[0.5 + 1 / 16, 0.75], [0.25, 0.5]], [1.0, 0], [[0, 0, 0, 0], [0, 2, 6, 0]]),  # shared by distance
        ([[0.625, 0.75], [0.25, 0.5]], [0.5, 0.5], COARSE),
        ([[1.5, 0.5], [0.5, -0.6]], [0.5, 0.5], [[0] * 4] * 2),  # outside the image
    ],
)
def test_map_of_samples(locations, weights, expected):
    """One query and head, one point a level; levels of 2 x 4 and 1 x 2 valid tokens."""
    locations = torch.tensor(locations)[None, None, None, :, None]
    weights = torch.tensor(weights)[None, None, None, :, None]
    attention = Attention([mask(4, 4, 2, 4), mask(2, 2, 1, 2)], weights, locations=locations)
    torch.testing.assert_close(attention_map(attention, [0]), torch.tensor(expected, dtype=torch.float))
