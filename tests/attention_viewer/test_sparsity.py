"""Negative entropy against cases that are known by hand."""

import math

import pytest
import torch

from projects.attention_viewer.record import Attention
from projects.attention_viewer.sparsity import SparsityMeter, negative_entropy


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([1 / 7] * 7, -math.log(7)), ([0, 0, 1.0], 0), ([0.5, 0.25, 0.25, 0], -1.5 * math.log(2))],
)
def test_negative_entropy(weights, expected):
    assert negative_entropy(torch.tensor(weights).double()).item() == pytest.approx(expected)


def dense(weights: torch.Tensor, padding: list[list[bool]]) -> Attention:
    return Attention([torch.tensor(padding)[:, None]], weights)


def rows(*records: dict) -> list[dict]:
    meter = SparsityMeter()
    for record in records:
        meter.add(dict(encoder=[], decoder=[]) | record)
    return meter.rows()


def test_padding_counts_neither_as_key_nor_as_query():
    """Two of four tokens are image: their queries are even over both; what padding attends to is nonsense."""
    weights = torch.tensor([[0.5, 0.5, 0, 0]] * 2 + [[1.0, 0, 0, 0]] * 2)[None, :, None]
    attention = dense(weights, [[False, False, True, True]])
    encoder, decoder = rows(dict(encoder=[attention], decoder=[attention]))
    assert (encoder["stage"], encoder["layer"]) == ("encoder", 0)
    assert encoder["negative_entropy"] == pytest.approx(-math.log(2))
    assert encoder["even"] == pytest.approx(-math.log(2))
    # The decoder's queries are no tokens: all four count.
    assert decoder["negative_entropy"] == pytest.approx(-math.log(2) / 2)


def test_mean_is_over_all_queries_and_heads_of_all_images():
    one_hot, even = torch.eye(4)[:1], torch.full((1, 4), 0.25)
    first = torch.stack((one_hot, even), 1)[None]  # one query, two heads
    second = torch.stack((even, even), 1).repeat(3, 1, 1)[None]  # three queries
    (row,) = rows(*(dict(decoder=[dense(weights, [[False] * 4])]) for weights in (first, second)))
    assert row["negative_entropy"] == pytest.approx(-math.log(4) * 7 / 8)
    assert row["even"] == pytest.approx(-math.log(4))


@pytest.mark.parametrize(("seen", "even"), [(2, 6), (1, 3)])
def test_samples_of_all_levels_and_points_are_one_distribution(seen, even):
    """Two levels of three points; with ``seen`` of 1 the query sees one level alone."""
    weights = torch.zeros(1, 2, 1, 2, 3)
    weights[:, :, :, :seen] = 1 / (3 * seen)
    masks = [torch.zeros(1, 1, 1, dtype=torch.bool)] * 2
    (row,) = rows(dict(encoder=[Attention(masks, weights, locations=torch.zeros(1, 2, 1, 2, 3, 2))]))
    assert row["negative_entropy"] == pytest.approx(-math.log(even), rel=1e-6)
    assert row["even"] == pytest.approx(-math.log(even))
