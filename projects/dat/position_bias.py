"""Position bias of deformable attention, from a table as large as a pretraining image made it.

Positions are x, y in [-1, 1], as ``grid_sample`` takes them.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def centres(height: int, width: int, like: Tensor) -> Tensor:
    """Centres of the tokens of a map, (height, width, 2), as uniform in [-1, 1] (paper, section 3.2)."""
    y, x = ((2 * torch.arange(n, dtype=like.dtype, device=like.device) + 1) / n - 1 for n in (height, width))
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def relative_bias(table: Tensor, queries: Tensor, points: Tensor) -> Tensor:
    """Bias by the displacement from sampling point to query, bilinear in the table (paper, eq. 7).

    Displacements are relative to the map's size, so that one table serves maps of any size.

    Args:
        table: (num_heads, table height, table width); its middle is displacement 0, its borders are
            displacements by the whole map.
        queries: (num_queries, 2).
        points: (bs, num_groups, num_points, 2); a group of points is for a group of heads.

    Returns:
        (bs, num_heads, num_queries, num_points).
    """
    bs, num_groups = points.shape[:2]
    displacement = (queries[:, None] - points[:, :, None]) / 2
    tables = table.unflatten(0, (num_groups, -1)).expand(bs, -1, -1, -1, -1)
    bias = F.grid_sample(
        tables.flatten(0, 1).to(points.dtype), displacement.flatten(0, 1), align_corners=True
    )
    return bias.reshape(bs, table.shape[0], *displacement.shape[2:4])


def resize_table(table: Tensor, side: int) -> Tensor:
    """A table (num_heads, h, w) to (num_heads, side, side), bicubic as the official code loads tables."""
    if table.shape[1:] == (side, side):
        return table
    return F.interpolate(table[None], size=(side, side), mode="bicubic")[0]
