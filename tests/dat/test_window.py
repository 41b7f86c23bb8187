"""Window attention against one that loops over cells and knows nothing of padding and rolling."""

import math

import pytest
import torch
from torch import Tensor

from projects.dat.window import ShiftedWindowAttention, WindowAttention


def slow_attention(attention: WindowAttention, x: Tensor, shift: int) -> Tensor:
    """Each cell attends to the cells (h, w) whose window number, shifted, is its own."""
    (channels, height, width), size = x.shape, attention.window_size
    heads = attention.num_heads
    head_dims = channels // heads
    table = attention.relative_position_bias_table.unflatten(0, (2 * size - 1, 2 * size - 1))
    cells = [(y, x) for y in range(height) for x in range(width)]

    def window(cell):
        # The first window of a shifted grid begins ``size - shift`` cells before the map.
        return tuple((c - shift) // size for c in cell)

    qkv = {c: attention.proj_qkv(x[:, c[0], c[1]]).reshape(3, heads, head_dims) for c in cells}
    out = torch.zeros_like(x)
    for cell in cells:
        others = [other for other in cells if window(other) == window(cell)]
        logits = torch.stack(
            [
                (qkv[cell][0] * qkv[other][1]).sum(-1) / math.sqrt(head_dims)
                + table[cell[0] - other[0] + size - 1, cell[1] - other[1] + size - 1]
                for other in others
            ]
        )
        values = torch.stack([qkv[other][2] for other in others])
        mixed = (logits.softmax(0)[..., None] * values).sum(0)
        out[:, cell[0], cell[1]] = attention.proj_out(mixed.flatten())
    return out


@pytest.mark.parametrize("size", [(6, 9), (5, 7), (2, 3), (3, 3)], ids=str)
@pytest.mark.parametrize(("kind", "shift"), [(WindowAttention, 0), (ShiftedWindowAttention, 2)])
def test_is_attention_among_cells_of_a_window(kind, shift, size):
    torch.manual_seed(0)
    attention = kind(8, num_heads=2, window_size=3).double()
    torch.nn.init.normal_(attention.relative_position_bias_table)
    x = torch.randn(2, 8, *size, dtype=torch.double)
    expected = torch.stack([slow_attention(attention, image, shift) for image in x])
    torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("kind", [WindowAttention, ShiftedWindowAttention])
def test_every_window_has_a_finite_gradient(kind):
    """Padding attends to padding, so that no softmax is over nothing."""
    attention = kind(4, num_heads=2, window_size=7)
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
