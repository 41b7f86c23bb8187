"""Where a backbone's points are in the original image, and which token a point lies in."""

import math

import pytest
import torch
import torch.nn.functional as F

from projects.attention_viewer.backbone_attention import BackboneAttention
from projects.attention_viewer.record import record_attention
from projects.attention_viewer.view import View

# The image of 128 x 96 pixels is seen as 32 x 32, padded to 64 x 64: 4 x 4 tokens of 16 in stage 2.


def test_a_known_offset_is_found_in_the_image(build, picture):
    """Half a step of the grid right, a quarter up; the grid is 14, 26, 38, 50 pixels into the input."""
    detector = build("dat", "diagonal")
    _, attention, stride = detector.backbone.deformable_blocks()[0]
    offset = torch.tensor([math.atanh(-0.25), math.atanh(0.5)])[:, None, None]  # y, x
    attention.conv_offset[-1].forward = lambda maps: offset.expand(len(maps), 2, *maps.shape[2:])
    view = View.of(detector, picture)
    grid, points = view.record["backbone"][0].moved()
    sides = torch.tensor([14.0, 26, 38, 50])
    expected = torch.stack(torch.meshgrid(sides, sides, indexing="xy"), -1).flatten(0, 1)
    torch.testing.assert_close(grid, expected)
    torch.testing.assert_close(points, (expected + torch.tensor([6.0, -3])).expand_as(points))
    # The input is 4 and 3 times smaller than the image, and mirrored.
    place = view.input_frame.to_pixels(points)[0, 0].tolist()
    assert place == pytest.approx((128 - 80, 96 - 33), abs=1e-3)


def test_points_are_where_grid_sample_reads(build, padded_batch):
    """A map whose values are the places of its tokens is sampled at the points: it says where they are."""
    model = build("dat", divisor=32)
    with torch.no_grad(), record_attention(model) as record:
        model(*padded_batch, mode="tensor")
    for block, (_, attention, stride) in zip(
        record["backbone"], model.backbone.deformable_blocks(), strict=True
    ):
        height, width = block.x.shape[2:]
        assert (height, width) == (96 // stride, 128 // stride)
        place = [(torch.arange(n) + 0.5) * stride for n in (width, height)]
        places = torch.stack(torch.meshgrid(*place, indexing="xy"))[None]
        with torch.no_grad():
            at = attention.points(attention.proj_q(block.x))[0]
        read = F.grid_sample(places.expand(attention.num_groups, -1, -1, -1), at, align_corners=True)
        _, points = block.moved()
        inside = (at.abs() <= 1).all(-1).flatten(1, 2)
        assert inside.any()
        torch.testing.assert_close(read.flatten(2).mT[inside], points[inside])


@pytest.mark.parametrize(
    ("point", "token"),
    [((0, 0), [0, 0]), ((16, 17), [0, 1]), ((63.9, 20), [3, 1]), ((64, 48), [3, 2]), ((65, 49), [3, 2])],
)
def test_token_of_a_point(point, token):
    """On a border it is the one before: the right border of an image is not the padding beside it."""
    block = BackboneAttention("", torch.nn.Identity(), 16, torch.zeros(1, 2, 3, 4))
    assert block.token_at(torch.tensor(point)).tolist() == token
