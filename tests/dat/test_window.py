"""Window attention against one that loops over positions and knows nothing of padding and rolling."""

import math
from itertools import product

import pytest
import torch
from torch import Tensor

from projects.dat.window import WindowAttention


def slow_attention(attention: WindowAttention, image: Tensor, shift: int) -> Tensor:
    """Each position (h, w) attends to those whose window number, shifted, is its own."""
    (channels, height, width), size = image.shape, attention.window_size
    heads = attention.num_heads
    table = attention.relative_position_bias_table.unflatten(0, (2 * size - 1, 2 * size - 1))
    positions = list(product(range(height), range(width)))

    def window(position):
        # The first window of a shifted grid begins ``size - shift`` tokens before the map.
        return tuple((p - shift) // size for p in position)

    q, k, v = (attention.proj_qkv(image.movedim(0, -1)).unflatten(-1, (3, heads, -1))).unbind(2)
    out = torch.zeros_like(image)
    for y, x in positions:
        others = [other for other in positions if window(other) == window((y, x))]
        logits = [
            (q[y, x] * k[i, j]).sum(-1) / math.sqrt(channels // heads)
            + table[y - i + size - 1, x - j + size - 1]
            for i, j in others
        ]
        weights = torch.stack(logits).softmax(0)
        mixed = sum(weight[:, None] * v[other] for weight, other in zip(weights, others, strict=True))
        out[:, y, x] = attention.proj_out(mixed.flatten())
    return out


@pytest.mark.parametrize("size", [(6, 9), (5, 7), (2, 3), (3, 3)], ids=str)
@pytest.mark.parametrize("shift", [0, 2])
def test_is_attention_among_tokens_of_a_window(shift, size):
    torch.manual_seed(0)
    attention = WindowAttention(8, num_heads=2, window_size=3, shifted=shift > 0).double()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(2, 8, *size, dtype=torch.double)
    expected = torch.stack([slow_attention(attention, image, shift) for image in x])
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("shifted", [False, True])
def test_every_window_has_a_finite_gradient(shifted):
    """Padding attends to padding, so that no softmax is over nothing."""
    attention = WindowAttention(4, num_heads=2, window_size=7, shifted=shifted)
    x = torch.randn(1, 4, 8, 15, requires_grad=True)
    attention(x).square().sum().backward()
    assert x.grad.isfinite().all() and (x.grad != 0).all()


def test_table_of_another_window_is_resized():
    small, large = WindowAttention(4, 2, window_size=4), WindowAttention(4, 2, window_size=7)
    torch.nn.init.constant_(small.relative_position_bias_table[:, 1], 3.0)
    large.load_state_dict(small.state_dict(), strict=True)
    torch.testing.assert_close(large.relative_position_bias_table[:, 1], torch.full((169,), 3.0))
    assert large.relative_position_index.shape == (49, 49)
    assert large(torch.zeros(1, 4, 7, 7)).isfinite().all()
