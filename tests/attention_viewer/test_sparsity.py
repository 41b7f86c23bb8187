"""Negative entropy against cases that are known by hand."""

import math

import pytest
import torch

from projects.attention_viewer.record import DenseAttention, Record, SampledAttention
from projects.attention_viewer.sparsity import SparsityMeter, negative_entropy


@pytest.mark.parametrize("n", [1, 2, 7, 1000])
def test_even_attention_is_minus_log_n(n):
    assert negative_entropy(torch.full((n,), 1 / n).double()).item() == pytest.approx(-math.log(n))


def test_all_on_one_key_is_zero():
    assert negative_entropy(torch.eye(5)).tolist() == [0] * 5


def test_unequal_keys():
    values = negative_entropy(torch.tensor([0.5, 0.25, 0.25, 0.0])).item()
    assert values == pytest.approx(-1.5 * math.log(2))


def dense(weights: torch.Tensor, padding: list[list[bool]]) -> DenseAttention:
    return DenseAttention([torch.tensor(padding)[:, None]], weights)


def test_padding_counts_neither_as_key_nor_as_query():
    """Two of four cells are image: their queries are even over both; what padding attends to is nonsense."""
    weights = torch.tensor([[0.5, 0.5, 0, 0]] * 2 + [[1.0, 0, 0, 0]] * 2)[None, :, None]
    padding = [[False, False, True, True]]
    meter = SparsityMeter()
    meter.add(Record([dense(weights, padding)], [dense(weights, padding)]))
    encoder, decoder = meter.rows()
    assert (encoder["stage"], encoder["layer"]) == ("encoder", 0)
    assert encoder["negative_entropy"] == pytest.approx(-math.log(2))
    assert encoder["even"] == pytest.approx(-math.log(2))
    # The decoder's queries are no cells: all four count.
    assert decoder["negative_entropy"] == pytest.approx(-math.log(2) / 2)


def test_mean_is_over_all_queries_and_heads_of_all_images():
    one_hot, even = torch.eye(4)[:1], torch.full((1, 4), 0.25)
    first = torch.stack((one_hot, even), 1)[None]  # one query, two heads
    second = torch.stack((even, even), 1).repeat(3, 1, 1)[None]  # three queries
    meter = SparsityMeter()
    for weights in (first, second):
        meter.add(Record([], [dense(weights, [[False] * 4])]))
    (row,) = meter.rows()
    assert row["negative_entropy"] == pytest.approx(-math.log(4) * 7 / 8)
    assert row["even"] == pytest.approx(-math.log(4))


@pytest.mark.parametrize(("seen", "even"), [(2, 6), (1, 3)])
def test_samples_of_all_levels_and_points_are_one_distribution(seen, even):
    """Two levels of three points; with ``seen`` of 1 the query sees one level alone."""
    weights = torch.zeros(1, 2, 1, 2, 3)
    weights[:, :, :, :seen] = 1 / (3 * seen)
    masks = [torch.zeros(1, 1, 1, dtype=torch.bool)] * 2
    attention = SampledAttention(masks, weights, weights.new_zeros(1, 2, 1, 2, 3, 2), None)
    meter = SparsityMeter()
    meter.add(Record([attention]))
    (row,) = meter.rows()
    assert row["negative_entropy"] == pytest.approx(-math.log(even), rel=1e-6)
    assert row["even"] == pytest.approx(-math.log(even))
