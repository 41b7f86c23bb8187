"""The pictures: sampling points, the map of a query, the map of everything that was detected."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from projects.reliable_runner.errors import InputError

from .heat import attention_map
from .record import DenseAttention, SampledAttention, on_padding, token_centres
from .sheet import (
    draw_box,
    draw_cross,
    draw_heat,
    draw_points,
    finish,
    head_colours,
    new_sheet,
    point_size,
    weight_colours,
)
from .view import View

_HEAT = "attention (1 = even over the image)"


def picture_points(
    view: View,
    stage: str,
    layers: Sequence[int],
    query: int,
    heads: Sequence[int],
    by_head: bool = False,
) -> Figure:
    """Where a query samples the image, in all levels (paper, figure 6).

    Args:
        view: the image.
        stage: "encoder" or "decoder".
        layers: a panel each.
        query: index of the query; for the encoder, of the token.
        heads: indices of the heads that are shown.
        by_head: colour by head instead of by attention weight.

    Raises:
        InputError: the attention is dense and has no sampling points.
    """
    attentions = [getattr(view.record, stage)[layer] for layer in layers]
    if isinstance(attentions[0], DenseAttention):
        raise InputError("--show points: DETR's attention has no sampling points; say --show map")
    weights = torch.stack([attention.weights[0, query, heads] for attention in attentions])
    used = weights > 0
    sizes = point_size(torch.arange(weights.shape[2]))[:, None].expand_as(weights)
    if by_head:
        label, ticks = "head", heads
        colours = torch.tensor(heads)[:, None, None].expand_as(weights)
        cmap = head_colours(len(heads))
        norm = Normalize(min(heads) - 0.5, max(heads) + 0.5)
    else:
        label, ticks, colours = "attention weight", None, weights
        cmap, norm = weight_colours(), Normalize(0, weights.max().item())

    figure, axes = new_sheet(view.image, _titles(stage, layers))
    for i, (ax, layer) in enumerate(zip(axes, layers, strict=True)):
        points = view.frame.to_pixels(attentions[i].locations[0, query, heads])
        chosen = used[i]
        artist = draw_points(ax, points[chosen], colours[i][chosen], sizes[i][chosen], cmap, norm)
        _draw_query(view, ax, stage, layer, query)
    return finish(figure, artist, label, weights.shape[2], ticks)


def picture_map(view: View, stage: str, layers: Sequence[int], query: int, heads: Sequence[int]) -> Figure:
    """How much attention a query gives to each place, the mean over heads; see `picture_points`."""
    figure, axes = new_sheet(view.image, _titles(stage, layers))
    attentions = [getattr(view.record, stage)[layer] for layer in layers]
    heats = [attention_map(attention, [query], heads) for attention in attentions]
    norm = Normalize(0, max(heat.max().item() for heat in heats))
    for ax, layer, heat in zip(axes, layers, heats, strict=True):
        artist = draw_heat(ax, heat, view.frame, norm)
        _draw_query(view, ax, stage, layer, query)
    return finish(figure, artist, _HEAT)


def picture_total(
    view: View, stage: str, layers: Sequence[int], heads: Sequence[int], score_thr: float
) -> Figure:
    """The attention of all queries of detections; for the encoder, of all tokens.

    Args:
        view: the image.
        stage: "encoder" or "decoder".
        layers: those that are averaged.
        heads: indices of the heads that are averaged.
        score_thr: least score of a detection.

    Raises:
        InputError: nothing is detected.
    """
    if stage == "decoder":
        queries = view.detections.ranked(score_thr)
        title = f"decoder, {len(queries)} detections"
    else:
        queries = (~on_padding(view.record.encoder[0].masks)[0]).nonzero()[:, 0]
        title = f"encoder, all {len(queries)} tokens"
    attentions = [getattr(view.record, stage)[layer] for layer in layers]
    heats = [attention_map(attention, queries, heads) for attention in attentions]
    heat = torch.stack(heats).mean(0)
    figure, (ax,) = new_sheet(view.image, [f"{title}, mean of {len(layers)} layers"])
    artist = draw_heat(ax, heat, view.frame, Normalize(0, heat.max().item()))
    if stage == "decoder":
        for box in view.detections.boxes[-1, queries]:
            draw_box(ax, box)
    return finish(figure, artist, _HEAT)


def _titles(stage: str, layers: Sequence[int]) -> list[str]:
    return [f"{stage} layer {layer}" for layer in layers]


def _draw_query(view: View, ax: Axes, stage: str, layer: int, query: int) -> None:
    """The reference point, or the token of the encoder, and the box that the layer predicts."""
    attention = getattr(view.record, stage)[layer]
    if isinstance(attention, SampledAttention):
        draw_cross(ax, view.frame.to_pixels(attention.reference_points[0, query, :2]))
    elif stage == "encoder":
        draw_cross(ax, view.frame.to_pixels(token_centres(attention.masks)[0, query]))
    if stage == "decoder":
        draw_box(ax, view.detections.boxes[layer, query], view.caption(layer, query))
