"""Attention inside windows, plain or shifted (Liu et al., ICCV 2021)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .position_bias import resize_table


class WindowAttention(nn.Module):
    """Each token attends to the tokens of its window.

    The map is padded at right and bottom to complete windows, and padding is masked: the result at a token
    does not depend on it. For shifted windows, which lie half a window, rounded up, to the lower right, the
    map is rolled; tokens that only the roll has made neighbours do not attend to each other.
    """

    def __init__(self, channels: int, num_heads: int, window_size: int, shifted: bool = False) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.shift = math.ceil(window_size / 2) if shifted else 0
        self.proj_qkv = nn.Linear(channels, 3 * channels)
        self.proj_out = nn.Linear(channels, channels)
        span = 2 * window_size - 1
        self.relative_position_bias_table = nn.Parameter(torch.empty(span**2, num_heads))
        nn.init.trunc_normal_(self.relative_position_bias_table, std=0.01)
        self.register_buffer("relative_position_index", _relative_position_index(window_size))

    def forward(self, x: Tensor) -> Tensor:
        """(bs, channels, h, w) to the same shape."""
        bs, channels, height, width = x.shape
        size = self.window_size
        rows, columns = ((side + size - 1) // size for side in (height, width))
        x = F.pad(x.movedim(1, -1), (0, 0, 0, columns * size - width, 0, rows * size - height))
        x = x.roll((-self.shift, -self.shift), dims=(1, 2))
        x = x.reshape(bs, rows, size, columns, size, channels).transpose(2, 3)
        x = self._attend(x.reshape(-1, size**2, channels), self._bias(height, width))
        x = x.reshape(bs, rows, columns, size, size, channels).transpose(2, 3)
        x = x.reshape(bs, rows * size, columns * size, channels)
        x = x.roll((self.shift, self.shift), dims=(1, 2))
        return x[:, :height, :width].movedim(-1, 1)

    def _attend(self, windows: Tensor, bias: Tensor) -> Tensor:
        """Attention in windows (bs * num_windows, tokens, channels), with the bias of `_bias`."""
        # The windows that the bias tells apart go beside the heads, so that it is broadcast over the images.
        shape = windows.shape
        qkv = self.proj_qkv(windows).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, -1, bias.shape[0] * self.num_heads, shape[1], qkv.shape[-1])
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=bias.flatten(0, 1).to(q.dtype))
        x = x.reshape(shape[0], self.num_heads, shape[1], -1).transpose(1, 2)
        return self.proj_out(x.reshape(shape))

    def _bias(self, height: int, width: int) -> Tensor:
        """Bias of the attention logits, -inf where a token must not attend.

        (1, num_heads, tokens, tokens) where all windows are complete, else (num_windows, ...).
        """
        index = self.relative_position_index
        bias = self.relative_position_bias_table[index.flatten()].unflatten(0, index.shape)
        bias = bias.permute(2, 0, 1)[None]
        size = self.window_size
        is_known = isinstance(height, int)  # in a graph that is exported, the size is open
        if is_known and not (self.shift or height % size or width % size):
            return bias
        rows, columns = (_regions(side, size, self.shift, index.device) for side in (height, width))
        regions = (rows[:, None, :, None] * 4 + columns[None, :, None, :]).reshape(-1, size**2)
        apart = regions[:, :, None] != regions[:, None, :]
        return bias.masked_fill(apart[:, None], -math.inf)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        table = state_dict.get(f"{prefix}relative_position_bias_table")
        ours = self.relative_position_bias_table
        if table is not None and table.shape != ours.shape:
            side = math.isqrt(len(table))
            table = resize_table(table.T.unflatten(1, (side, side)), math.isqrt(len(ours)))
            state_dict[f"{prefix}relative_position_bias_table"] = table.flatten(1).T
            state_dict[f"{prefix}relative_position_index"] = self.relative_position_index
        super()._load_from_state_dict(state_dict, prefix, *args)


def _relative_position_index(size: int) -> Tensor:
    """Where in the bias table the displacement from token to token of a window is: (size^2, size^2)."""
    positions = torch.cartesian_prod(torch.arange(size), torch.arange(size))
    displacement = positions[:, None] - positions + size - 1
    return displacement[..., 0] * (2 * size - 1) + displacement[..., 1]


def _regions(length: int, size: int, shift: int, device: torch.device) -> Tensor:
    """Number the parts of a side that must not attend to each other, as (windows, size).

    0 or 1 are tokens before and after the seam of the roll, 2 and 3 are padding.
    """
    padded = (length + size - 1) // size * size
    rolled = torch.arange(padded, device=device)
    padding = rolled.roll(-shift) >= length
    return ((rolled >= padded - shift) + 2 * padding).unflatten(0, (-1, size))
