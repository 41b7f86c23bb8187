"""What is drawn is where it should be: artists and rendered pixels."""

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize

from projects.attention_viewer.frame import ImageFrame
from projects.attention_viewer.pictures import (
    picture_map,
    picture_offsets,
    picture_points,
    picture_shared_points,
    picture_total,
)
from projects.attention_viewer.sheet import draw_heat, new_sheet
from projects.reliable_runner.errors import InputError


@pytest.mark.parametrize(
    ("flipped", "place"), [((False, False), (16, 16)), ((True, False), (112, 16)), ((False, True), (16, 80))]
)
def test_the_hot_token_glows_at_its_pixels(flipped, place):
    """The first of 3 x 4 tokens of a 128 x 96 image, each 32 x 32 pixels."""
    figure, (ax,) = new_sheet(np.zeros((96, 128, 3), np.uint8), ["title"])
    heat = torch.zeros(3, 4)
    heat[0, 0] = 1
    draw_heat(ax, heat, ImageFrame((128, 96), (128.0, 96.0), flipped), Normalize(0, 1))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    shown = np.asarray(canvas.buffer_rgba())[..., :3].astype(float)
    colourful = shown.max(-1) - shown.min(-1)
    rows, columns = np.nonzero(colourful > 0.9 * colourful.max())
    x, y = ax.transData.inverted().transform([columns.mean(), len(shown) - rows.mean()])
    assert (x, y) == pytest.approx(place, abs=10)


def test_points_boxes_and_cross_are_where_the_view_has_them(see):
    view = see("two_stage", "horizontal")
    (ax, _) = picture_points(view, "decoder", [0], 3, [0, 2]).axes
    attention = view.record["decoder"][0]
    (points,) = ax.collections
    weights = attention.weights[0, 3, [0, 2]].flatten()
    expected = view.frame.to_pixels(attention.locations[0, 3, [0, 2]]).flatten(0, 2)
    order = weights.argsort()
    assert np.allclose(points.get_offsets(), expected[order])
    assert np.allclose(points.get_array(), weights[order])
    reference = view.frame.to_pixels(attention.reference_points[0, 3, :2])
    assert np.allclose(ax.lines[0].get_xydata()[0], reference)
    x1, y1, x2, y2 = view.detections.boxes[0, 3].tolist()
    assert ax.patches[0].get_bbox().extents == pytest.approx([x1, y1, x2, y2], abs=1e-4)
    assert ax.texts[0].get_text() == view.caption(0, 3)
    assert (*ax.get_xlim(), *ax.get_ylim()) == (0, 128, 96, 0)


def test_levels_that_a_query_cannot_see_are_not_drawn(see):
    view = see("levelwise")
    (ax, _) = picture_points(view, "encoder", [0], 1, [0, 1, 2, 3]).axes
    assert len(ax.collections[0].get_offsets()) == 4 * 4


@pytest.mark.parametrize("variant", ["base", "detr"])
def test_maps_of_all_layers(variant, see):
    view = see(variant)
    for stage in ("encoder", "decoder"):
        layers = view.layers(stage, "all")
        figure = picture_map(view, stage, layers, 0, [0, 1, 2, 3])
        assert len(figure.axes) == len(layers) + 1  # and the scale
        heats = [ax.images[1].get_array() for ax in figure.axes[:-1]]
        assert all(heat.sum() > 0 for heat in heats)
        assert all(heat.max() <= ax.images[1].norm.vmax for heat in heats for ax in figure.axes[:1])


def test_the_total_is_the_mean_of_its_queries(see):
    view = see("detr", size=96)
    threshold = view.detections.scores[-1].sort().values[-3].item()
    (ax, _) = picture_total(view, "decoder", [0, 1], [0, 1, 2, 3], threshold).axes
    queries = view.detections.ranked(threshold)
    assert len(queries) == len(ax.patches) >= 3
    weights = torch.stack([layer.weights[0, queries] for layer in view.record["decoder"]])
    tokens = weights.mean((0, 1, 2)).view(4, 4)  # of which 3 x 3 are image
    assert np.allclose(ax.images[1].get_array(), 9 * tokens[:3, :3])


def test_detr_has_no_points(see):
    view = see("detr")
    with pytest.raises(InputError, match="--show map"):
        picture_points(view, "decoder", [0], 0, [0])


@pytest.mark.parametrize("head", [None, 3])
def test_backbone_points_are_drawn_by_their_weights(head, see):
    view = see("dat", "horizontal")
    point = torch.tensor([100.0, 10])
    figure = picture_shared_points(view, [0, 1], point, head)
    for ax, block in zip(figure.axes, view.record["backbone"], strict=False):
        centre, points, weights = block.seen_from(view.input_frame.to_units(point))
        shares, groups = weights * weights.shape[1], len(points)
        if head is None:
            shares = torch.stack([part.mean(0) for part in shares.chunk(groups)])
        else:
            points, shares = points[[head * groups // 4]], shares[[head]]
        order = shares.flatten().argsort()
        (drawn,) = ax.collections
        assert np.allclose(drawn.get_offsets(), view.input_frame.to_pixels(points).flatten(0, 1)[order])
        assert np.allclose(drawn.get_array(), shares.flatten()[order])
        assert (np.diff(drawn.get_sizes()) >= 0).all()
        assert np.allclose(ax.lines[0].get_xydata()[0], view.input_frame.to_pixels(centre))
        assert ((centre - view.input_frame.to_units(point)).abs() <= block.stride / 2).all()
        assert (*ax.get_xlim(), *ax.get_ylim()) == (0, 128, 96, 0)
    with pytest.raises(InputError, match="--head 4: layer 1 of the backbone has 4"):
        picture_shared_points(view, [1], point, head=4)


def test_offsets_join_the_grid_and_the_points(see):
    view = see("dat", "horizontal")
    (ax,) = picture_offsets(view, [1]).axes
    grid, groups = view.record["backbone"][1].moved()
    lines = [lines for lines in ax.collections if hasattr(lines, "get_segments")]
    for drawn, points in zip(lines, groups, strict=True):
        ends = view.input_frame.to_pixels(torch.stack((grid, points), 1))
        assert np.allclose(drawn.get_segments(), ends)
    assert (*ax.get_xlim(), *ax.get_ylim()) == (0, 128, 96, 0)
