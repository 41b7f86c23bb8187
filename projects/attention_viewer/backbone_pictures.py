"""Pictures of a backbone's deformable attention: what a cell attends to, and how the points move."""

from collections.abc import Sequence

import matplotlib
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from .sheet import draw_cross, draw_moves, draw_points, finish, new_sheet, weight_colours
from .view import View

_LARGEST = 90  # area of the point that gets the most attention


def picture_shared_points(
    view: View, layers: Sequence[int], point: Tensor, head: int | None = None
) -> Figure:
    """The points that a cell attends to, larger the more it does.

    Args:
        view: the image.
        layers: blocks of the backbone, a panel each.
        point: (2,), x and y in pixels of the original image; each block has the cell that it lies in.
        head: the head that is shown; by default all, and a group's points have the mean of its heads.

    Raises:
        InputError: a block has no such head.
    """
    figure, axes = new_sheet(view.image, _titles(view, layers))
    panels = []
    for layer in layers:
        block = view.record.backbone[layer]
        heads = view.heads("backbone", head, layer)
        cell = block.cell_at(view.input_frame.to_units(point))
        points, weights = block.seen_from(cell)
        shares = weights[heads] * weights.shape[1]
        if head is None:  # the heads of a group have the same points
            heads_a_group = len(heads) // block.attention.num_groups
            points, shares = points[::heads_a_group], shares.unflatten(0, (-1, heads_a_group))
            shares = shares.mean(1)
        else:
            points = points[heads]
        panels.append((points.flatten(0, 1), shares.flatten(), block.centre_of(cell)))
    norm = Normalize(0, max(shares.max().item() for _, shares, _ in panels))
    for ax, (points, shares, centre) in zip(axes, panels, strict=True):
        points = view.input_frame.to_pixels(points)
        sizes = 2 + _LARGEST * shares / norm.vmax
        artist = draw_points(ax, points, shares, sizes, weight_colours(), norm)
        draw_cross(ax, view.input_frame.to_pixels(centre))
    return finish(figure, artist, "attention (1 = even over the points)")


def picture_offsets(view: View, layers: Sequence[int]) -> Figure:
    """How far the points lie from the regular grid, grey; a colour for each group.

    Args:
        view: the image.
        layers: blocks of the backbone, a panel each.
    """
    figure, axes = new_sheet(view.image, _titles(view, layers))
    for ax, layer in zip(axes, layers, strict=True):
        grid, groups = view.record.backbone[layer].moved()
        grid = view.input_frame.to_pixels(grid)
        for group, points in enumerate(groups):
            colour = matplotlib.colors.to_hex(matplotlib.colormaps["tab10"](group % 10))
            draw_moves(ax, grid, view.input_frame.to_pixels(points), colour)
    return figure


def _titles(view: View, layers: Sequence[int]) -> list[str]:
    return [f"backbone layer {layer} ({view.record.backbone[layer].name})" for layer in layers]
