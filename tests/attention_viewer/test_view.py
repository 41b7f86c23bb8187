"""Which query is meant, and where a known offset of it ends in the original image."""

import pytest
import torch

from projects.attention_viewer.detections import Detections
from projects.attention_viewer.frame import ImageFrame
from projects.attention_viewer.view import View
from projects.reliable_runner.errors import InputError

# The image of 128 x 96 pixels is seen as 32 x 32, padded to 64 x 64. Two by two cells of level 0 are image,
# each of them 64 x 48 pixels, and one cell of level 1.
FLIPS = [(None, 1, 1), ("horizontal", -1, 1), ("vertical", 1, -1), ("diagonal", -1, -1)]


@torch.no_grad()
def set_offsets(attention: torch.nn.Module, offsets: torch.Tensor) -> None:
    """Give every query these offsets, (num_heads, num_levels, num_points, 2), in cells."""
    attention.sampling_offsets.weight.zero_()
    attention.sampling_offsets.bias.copy_(offsets.flatten())


@pytest.mark.parametrize(("direction", "x_sign", "y_sign"), FLIPS)
def test_known_offsets_of_the_encoder(direction, x_sign, y_sign, build, picture):
    """Head 1 looks a quarter of a cell right on level 0, an eighth of one down on level 1."""
    detector = build("base", direction)
    offsets = torch.zeros(4, 2, 4, 2)
    offsets[1, 0, 2] = torch.tensor([0.25, 0])
    offsets[1, 1, 3] = torch.tensor([0, 0.125])
    set_offsets(detector.encoder.layers[0].self_attn, offsets)
    view = View.of(detector, picture)

    query = view.query_of_point("encoder", torch.tensor([100.0, 80.0]), 0.3, level=0)
    attention = view.record.encoder[0]
    centre = torch.tensor([96.0, 72.0])  # of the cell at the lower right
    torch.testing.assert_close(
        view.frame.to_pixels(attention.reference_points[0, query]), centre, atol=1e-3, rtol=0
    )
    pixels = view.frame.to_pixels(attention.locations[0, query])
    expected = centre.expand_as(pixels).clone()
    expected[1, 0, 2, 0] += x_sign * 0.25 * 64
    expected[1, 1, 3, 1] += y_sign * 0.125 * 96
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("direction", "x_sign", "y_sign"), FLIPS)
def test_known_offsets_of_the_decoder_are_parts_of_the_box(direction, x_sign, y_sign, build, picture):
    """With boxes as references an offset of K, the number of points, reaches the edge (appendix A.4)."""
    detector = build("two_stage", direction)
    offsets = torch.zeros(4, 2, 4, 2)
    offsets[0, 1, 0] = torch.tensor([4.0, 0])
    offsets[3, 0, 1] = torch.tensor([0, -2.0])
    set_offsets(detector.decoder.layers[0].cross_attn, offsets)
    view = View.of(detector, picture)
    attention = view.record.decoder[0]
    box = view.frame.boxes_to_pixels(attention.reference_points[0, 5])
    centre, size = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    pixels = view.frame.to_pixels(attention.locations[0, 5])
    expected = centre.expand_as(pixels).clone()
    expected[0, 1, 0, 0] += x_sign * size[0] / 2
    expected[3, 0, 1, 1] -= y_sign * size[1] / 4
    torch.testing.assert_close(pixels, expected, atol=1e-3, rtol=0)


@pytest.fixture
def view(see) -> View:
    """A view whose detections are three of the ten queries, best first 7, 2, 4."""
    view = see("base")
    scores = torch.zeros(1, 10)
    scores[0, [7, 2, 4]] = torch.tensor([0.9, 0.8, 0.4])
    boxes = torch.zeros(1, 10, 4)
    boxes[0, 7] = torch.tensor([0, 0, 20, 20])
    boxes[0, 2] = torch.tensor([90, 60, 110, 80])
    boxes[0, 4] = torch.tensor([90, 0, 110, 20])
    view.detections = Detections(scores, torch.ones(1, 10, dtype=torch.int64), boxes)
    return view


def test_queries_by_rank_and_point(view):
    ranks = [view.query_of_rank("decoder", rank, 0.3, 0) for rank in (1, 2, 3)]
    assert ranks == [7, 2, 4]
    points = torch.tensor([[30.0, 5], [99, 90], [128, 0]])
    assert [view.query_of_point("decoder", point, 0.3, 0) for point in points] == [7, 2, 4]
    # The third is too weak for this threshold.
    assert view.query_of_point("decoder", points[2], 0.5, 0) == 2
    # In the encoder the cell under the centre of the box, of 4 x 4 cells a row 2 x 2 are image.
    cells = [view.query_of_rank("encoder", rank, 0.3, 0) for rank in (1, 2, 3)]
    assert cells == [0, 5, 1]
    assert view.query_of_rank("encoder", 2, 0.3, 1) == 16
    assert view.caption(0, 7) == "square 0.90"


def test_scores_leave_the_background_out():
    logits = torch.tensor([[1.0, 0.0, 9.0], [0.0, 2.0, -9.0]])[None, None]
    frame = ImageFrame((10, 10), (10.0, 10.0), (False, False))
    boxes = torch.full((1, 1, 2, 4), 0.5)
    detections = Detections.of_outputs(logits, boxes, use_sigmoid=False, frame=frame)
    expected = logits[0, 0].exp() / logits[0, 0].exp().sum(-1, keepdim=True)
    torch.testing.assert_close(detections.scores[0], torch.stack((expected[0, 0], expected[1, 1])))
    assert detections.labels.tolist() == [[0, 1]]
    assert detections.boxes[0, 0].tolist() == [2.5, 2.5, 7.5, 7.5]


@pytest.mark.parametrize(
    ("method", "args", "named"),
    [
        ("query_of_index", ("decoder", 10), "--query 10: .* 0 to 9"),
        ("query_of_index", ("encoder", 3), "--query 3: .* padding"),
        ("query_of_point", ("decoder", torch.tensor([200.0, 5]), 0.3, 0), "--point 200 5 .* 128 x 96"),
        ("query_of_rank", ("decoder", 4, 0.3, 0), "--detection 4: .* 1 .* to 3"),
        ("query_of_rank", ("decoder", 1, 0.95, 0), "0.900; lower --score-thr, here 0.95"),
        ("query_of_rank", ("encoder", 1, 0.3, 2), "--level 2: .* 0 to 1"),
        ("layers", ("encoder", "1"), "--layer 1: the encoder .* 0 to 0"),
        ("heads", ("decoder", 4), "--head 4: .* decoder .* 0 to 3"),
        ("layers", ("backbone", "last"), "--stage backbone"),
    ],
)
def test_what_is_not_there_is_named(view, method, args, named):
    with pytest.raises(InputError, match=named):
        getattr(view, method)(*args)
