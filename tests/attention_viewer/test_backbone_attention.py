"""Where a backbone's points are in the original image, and what a cell gives to them."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from projects.attention_viewer.backbone_attention import BackboneAttention
from projects.attention_viewer.backbone_pictures import picture_offsets, picture_shared_points
from projects.attention_viewer.record import record_attention
from projects.attention_viewer.view import View
from projects.reliable_runner.errors import InputError

# The image of 128 x 96 pixels is seen as 32 x 32, padded to 64 x 64: 4 x 4 cells of 16 in stage 2.
FLIPS = [(None, False, False), ("horizontal", True, False), ("vertical", False, True)]
FLIPS += [("diagonal", True, True)]


class Offset(torch.nn.Module):
    """In the place of the offset network's last layer: the same offset everywhere."""

    def __init__(self, y: float, x: float) -> None:
        super().__init__()
        self.offset = torch.tensor([y, x])

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        """(n, channels, h, w) to (n, 2, h, w)."""
        return self.offset[:, None, None].expand(len(maps), 2, *maps.shape[2:])


@pytest.fixture
def view(see) -> View:
    return see("dat", "horizontal")


@pytest.mark.parametrize(("direction", "flip_x", "flip_y"), FLIPS)
def test_a_known_offset_is_found_in_the_image(direction, flip_x, flip_y, build, picture):
    """Half a cell of the grid right, a quarter up; the grid is 14, 26, 38, 50 pixels into the input."""
    detector = build("dat", direction)
    _, attention, stride = detector.backbone.deformable_blocks()[0]
    attention.conv_offset[-1] = Offset(math.atanh(-0.25), math.atanh(0.5))
    view = View.of(detector, picture)
    grid, points = view.record.backbone[0].moved()
    sides = torch.tensor([14.0, 26, 38, 50])
    expected = torch.stack(torch.meshgrid(sides, sides, indexing="xy"), -1).flatten(0, 1)
    torch.testing.assert_close(grid, expected)
    torch.testing.assert_close(points, (expected + torch.tensor([6.0, -3])).expand_as(points))

    # The input is 4 and 3 times smaller than the image.
    x, y = view.input_frame.to_pixels(points)[0, 0].tolist()
    assert x == pytest.approx(128 - 80 if flip_x else 80, abs=1e-3)
    assert y == pytest.approx(96 - 33 if flip_y else 33, abs=1e-3)


def test_points_are_where_grid_sample_reads(build, padded_batch):
    """A map whose values are the places of its cells is sampled at the points: it says where they are."""
    model = build("dat", divisor=32)
    with torch.no_grad(), record_attention(model) as record:
        model(*padded_batch, mode="tensor")
    for block, (_, attention, stride) in zip(
        record.backbone, model.backbone.deformable_blocks(), strict=True
    ):
        height, width = block.x.shape[2:]
        assert (height, width) == (96 // stride, 128 // stride)
        place = [(torch.arange(n) + 0.5) * stride for n in (width, height)]
        places = torch.stack(torch.meshgrid(*place, indexing="xy"))[None]
        with torch.no_grad():
            at = attention.points(attention.proj_q(block.x))[0]
        groups = attention.num_groups
        read = F.grid_sample(places.expand(groups, -1, -1, -1), at, align_corners=True)
        _, points = block.moved()
        inside = (at.abs() <= 1).all(-1).flatten(1, 2)
        assert inside.any()
        torch.testing.assert_close(read.flatten(2).mT[inside], points[inside])


def test_a_cell_sees_by_each_head_the_points_of_its_group(view):
    for block in view.record.backbone:
        points, weights = block.seen_from((0, 1))
        _, groups = block.moved()
        assert points.shape == (4, groups.shape[1], 2)
        assert torch.equal(points[0], groups[0]) and torch.equal(points[3], groups[-1])
        assert torch.equal(points[1], groups[1 * len(groups) // 4])
        expected = block.attention.points_and_weights(block.x, [1]).weights[0, :, 0]
        assert torch.equal(weights, expected)


@pytest.mark.parametrize(
    ("point", "cell"),
    [((0, 0), (0, 0)), ((16, 17), (1, 0)), ((63.9, 20), (1, 3)), ((64, 48), (2, 3))],
)
def test_cell_of_a_point(point, cell):
    block = BackboneAttention("", torch.nn.Identity(), 16, torch.zeros(1, 2, 3, 4))
    assert block.cell_at(torch.tensor(point)) == cell
    centre = block.centre_of(cell)
    assert ((centre - torch.tensor(point)).abs() <= 8).all()


def test_right_border_of_the_image_is_not_the_padding_beside_it(view):
    """The image is 2 of 4 cells wide; mirrored, its left border is the right one of the input."""
    block = view.record.backbone[0]
    assert block.cell_at(view.input_frame.to_units(torch.tensor([0.0, 96.0]))) == (1, 1)


@pytest.mark.parametrize("head", [None, 3])
def test_points_are_drawn_by_their_weights(view, head):
    figure = picture_shared_points(view, [0, 1], torch.tensor([100.0, 10]), head)
    for ax, block in zip(figure.axes, view.record.backbone, strict=False):
        cell = block.cell_at(view.input_frame.to_units(torch.tensor([100.0, 10])))
        points, weights = block.seen_from(cell)
        shares = weights * weights.shape[1]
        if head is None:
            groups = block.attention.num_groups
            points = torch.stack([part[0] for part in points.chunk(groups)])
            shares = torch.stack([part.mean(0) for part in shares.chunk(groups)])
        else:
            points, shares = points[[head]], shares[[head]]
        order = shares.flatten().argsort()
        (drawn,) = ax.collections
        expected = view.input_frame.to_pixels(points).flatten(0, 1)[order]
        assert np.allclose(drawn.get_offsets(), expected)
        assert np.allclose(drawn.get_array(), shares.flatten()[order])
        assert (np.diff(drawn.get_sizes()) >= 0).all()
        centre = view.input_frame.to_pixels(block.centre_of(cell))
        assert np.allclose(ax.lines[0].get_xydata()[0], centre)
        assert (*ax.get_xlim(), *ax.get_ylim()) == (0, 128, 96, 0)


def test_offsets_join_the_grid_and_the_points(view):
    (ax,) = picture_offsets(view, [1]).axes
    grid, groups = view.record.backbone[1].moved()
    lines = [lines for lines in ax.collections if hasattr(lines, "get_segments")]
    assert len(lines) == len(groups) == 4
    for drawn, points in zip(lines, groups, strict=True):
        ends = view.input_frame.to_pixels(torch.stack((grid, points), 1))
        assert np.allclose(drawn.get_segments(), ends)
    assert (*ax.get_xlim(), *ax.get_ylim()) == (0, 128, 96, 0)


def test_what_is_not_there_is_named(view):
    with pytest.raises(InputError, match="--head 4: layer 1 of the backbone has the heads 0 to 3"):
        picture_shared_points(view, [1], torch.zeros(2), head=4)
    with pytest.raises(InputError, match="--layer 2: the backbone has the layers 0 to 1"):
        view.layers("backbone", "2")
