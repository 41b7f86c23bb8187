"""The pictures: points and maps of a query, the map of all detections, points and offsets of a backbone."""

from collections.abc import Sequence

import matplotlib
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from torch import Tensor

from projects.reliable_runner.errors import InputError

from . import sheet
from .heat import attention_map
from .view import View

_HEAT = "attention (1 = even over the image)"
_LARGEST = 90  # area of the backbone's point that gets the most attention


def picture_points(
    view: View, stage: str, layers: Sequence[int], query: int, heads: Sequence[int], by_head: bool = False
) -> Figure:
    """Where a query, for the encoder a token, samples the image in all levels (paper, figure 6).

    Each layer has a panel. Colours are attention weights, or ``by_head``.

    Raises:
        InputError: the attention is dense and has no sampling points.
    """
    attentions = [view.record[stage][layer] for layer in layers]
    if attentions[0].locations is None:
        raise InputError("--show points: DETR's attention has no sampling points; say --show map")
    weights = torch.stack([attention.weights[0, query, heads] for attention in attentions])
    sizes = sheet.point_size(torch.arange(weights.shape[2]))[:, None].expand_as(weights[0])
    if by_head:  # as many hues as heads; opposite directions get opposite hues
        label, ticks = "head", heads
        colours = torch.tensor(heads)[:, None, None].expand_as(weights)
        cmap = ListedColormap(matplotlib.colormaps["hsv"](torch.arange(len(heads)) / len(heads)))
        norm = Normalize(min(heads) - 0.5, max(heads) + 0.5)
    else:
        label, ticks, colours = "attention weight", None, weights
        cmap, norm = sheet.WEIGHT_COLOURS, Normalize(0, weights.max().item())

    figure, axes = _sheet(view, stage, layers)
    for i, (ax, layer) in enumerate(zip(axes, layers, strict=True)):
        points, used = view.frame.to_pixels(attentions[i].locations[0, query, heads]), weights[i] > 0
        artist = sheet.draw_points(ax, points[used], colours[i][used], sizes[used], cmap, norm)
        _draw_query(view, ax, stage, layer, query)
    return sheet.finish(figure, artist, label, weights.shape[2], ticks)


def picture_map(view: View, stage: str, layers: Sequence[int], query: int, heads: Sequence[int]) -> Figure:
    """How much attention a query gives to each place, the mean over heads; see `picture_points`."""
    figure, axes = _sheet(view, stage, layers)
    heats = [attention_map(view.record[stage][layer], [query], heads) for layer in layers]
    norm = Normalize(0, max(heat.max().item() for heat in heats))
    for ax, layer, heat in zip(axes, layers, heats, strict=True):
        artist = sheet.draw_heat(ax, heat, view.frame, norm)
        _draw_query(view, ax, stage, layer, query)
    return sheet.finish(figure, artist, _HEAT)


def picture_total(
    view: View, stage: str, layers: Sequence[int], heads: Sequence[int], score_thr: float
) -> Figure:
    """The mean attention of all queries of detections, for the encoder of all tokens, over layers and heads.

    Raises:
        InputError: nothing is detected.
    """
    if stage == "decoder":
        queries = view.detections.ranked(score_thr)
        title = f"decoder, {len(queries)} detections"
    else:
        queries = (~view.record["encoder"][0].padding[0]).nonzero()[:, 0]
        title = f"encoder, all {len(queries)} tokens"
    heats = [attention_map(view.record[stage][layer], queries, heads) for layer in layers]
    heat = torch.stack(heats).mean(0)
    figure, (ax,) = sheet.new_sheet(view.image, [f"{title}, mean of {len(layers)} layers"])
    artist = sheet.draw_heat(ax, heat, view.frame, Normalize(0, heat.max().item()))
    if stage == "decoder":
        for box in view.detections.boxes[-1, queries]:
            sheet.draw_box(ax, box)
    return sheet.finish(figure, artist, _HEAT)


def picture_shared_points(
    view: View, layers: Sequence[int], point: Tensor, head: int | None = None
) -> Figure:
    """The points that a token of a backbone attends to, larger the more it does; a panel for each block.

    The token is that in which ``point`` lies, (2,), in pixels of the original image. Without a ``head`` a
    group's points have the mean of its heads.
    """
    figure, axes = _sheet(view, "backbone", layers)
    panels = []
    for layer in layers:
        view.heads("backbone", head, layer)  # raises if there is no such head
        centre, points, weights = view.record["backbone"][layer].seen_from(view.input_frame.to_units(point))
        shares = (weights * weights.shape[1]).unflatten(0, (len(points), -1))  # heads of each group
        if head is None:
            shares = shares.mean(1)
        else:
            group, number = divmod(head, shares.shape[1])
            points, shares = points[group], shares[group, number]
        panels.append((points.reshape(-1, 2), shares.flatten(), centre))
    norm = Normalize(0, max(shares.max().item() for _, shares, _ in panels))
    for ax, (points, shares, centre) in zip(axes, panels, strict=True):
        sizes = 2 + _LARGEST * shares / norm.vmax
        places = view.input_frame.to_pixels(points)
        artist = sheet.draw_points(ax, places, shares, sizes, sheet.WEIGHT_COLOURS, norm)
        sheet.draw_cross(ax, view.input_frame.to_pixels(centre))
    return sheet.finish(figure, artist, "attention (1 = even over the points)")


def picture_offsets(view: View, layers: Sequence[int]) -> Figure:
    """How far the points of ``layers`` lie from the regular grid, grey; a colour for each group."""
    figure, axes = _sheet(view, "backbone", layers)
    for ax, layer in zip(axes, layers, strict=True):
        grid, groups = view.record["backbone"][layer].moved()
        grid = view.input_frame.to_pixels(grid)
        for group, points in enumerate(groups):
            sheet.draw_moves(ax, grid, view.input_frame.to_pixels(points), f"C{group}")
    return figure


def _sheet(view: View, stage: str, layers: Sequence[int]) -> tuple[Figure, list[Axes]]:
    names = [f" ({view.record[stage][layer].name})" if stage == "backbone" else "" for layer in layers]
    titles = [f"{stage} layer {layer}{name}" for layer, name in zip(layers, names, strict=True)]
    return sheet.new_sheet(view.image, titles)


def _draw_query(view: View, ax: Axes, stage: str, layer: int, query: int) -> None:
    """The reference point, or the token of the encoder, and the box that the layer predicts."""
    references = view.record[stage][layer].reference_points
    if references is not None:
        sheet.draw_cross(ax, view.frame.to_pixels(references[0, query, :2]))
    if stage == "decoder":
        sheet.draw_box(ax, view.detections.boxes[layer, query], view.caption(layer, query))
