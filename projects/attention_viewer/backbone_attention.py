"""Deformable attention inside a backbone: all cells of a map attend to the same points."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass
class BackboneAttention:
    """Attention of one block, which is worked out only for the cell that is looked at.

    Positions are in pixels of the network's input.

    Args:
        name: of the block.
        attention: has ``num_heads``, ``num_groups`` and ``points_and_weights(x, cells)``, which returns
            ``grid`` (num_points, 2), ``points`` (bs, num_groups, num_points, 2), both x, y in cells, and
            ``weights`` (bs, num_heads, number of cells, num_points).
        stride: side of a cell.
        x: what the attention got, (bs, channels, h, w).
    """

    name: str
    attention: nn.Module
    stride: int
    x: Tensor

    @property
    def num_heads(self) -> int:
        """How many heads there are; as many in a row share a group's points as there are for each group."""
        return self.attention.num_heads

    def cell_at(self, point: Tensor) -> tuple[int, int]:
        """Row and column of the cell that a point (2,), x and y, lies in."""
        sides = reversed(self.x.shape[2:])
        column, row = (
            min(max(math.ceil(value / self.stride) - 1, 0), side - 1)
            for value, side in zip(point.tolist(), sides, strict=True)
        )
        return row, column

    def centre_of(self, cell: tuple[int, int]) -> Tensor:
        """The middle of a cell, (2,), x and y."""
        row, column = cell
        return (torch.tensor([column, row]) + 0.5) * self.stride

    def seen_from(self, cell: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """The points of each head and the weights that a cell of the first image gives them.

        Returns:
            (num_heads, num_points, 2) and (num_heads, num_points), 1 in sum over the points.
        """
        row, column = cell
        seen = self.attention.points_and_weights(self.x, [row * self.x.shape[3] + column])
        heads_a_group = self.num_heads // self.attention.num_groups
        points = seen.points[0].repeat_interleave(heads_a_group, 0)
        return points * self.stride, seen.weights[0, :, 0]

    def moved(self) -> tuple[Tensor, Tensor]:
        """The regular grid (num_points, 2), and where each group has it (num_groups, num_points, 2)."""
        seen = self.attention.points_and_weights(self.x, [])
        return seen.grid * self.stride, seen.points[0] * self.stride


def record_backbone(model: nn.Module, record: list[BackboneAttention]) -> Iterator:
    """Hook the blocks that ``model.backbone.deformable_blocks()`` names, if there are any.

    Args:
        model: its backbone's method returns name, attention and side of a cell in pixels for each block.
        record: gets the attention of each block in the next forward.

    Yields:
        The handles of the hooks.
    """
    blocks = getattr(getattr(model, "backbone", None), "deformable_blocks", list)
    for name, attention, stride in blocks():

        def keep(attention: nn.Module, args: tuple, name: str = name, stride: int = stride) -> None:
            record.append(BackboneAttention(name, attention, stride, args[0]))

        yield attention.register_forward_pre_hook(keep)
