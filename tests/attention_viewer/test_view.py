"""Which query is meant."""

import pytest
import torch

from projects.attention_viewer.detections import Detections
from projects.attention_viewer.frame import ImageFrame
from projects.attention_viewer.view import View
from projects.reliable_runner.errors import InputError

# The image of 128 x 96 pixels is seen as 32 x 32, padded to 64 x 64. Two by two tokens of level 0 are image,
# each of them 64 x 48 pixels, and one token of level 1.


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
    detections = view.detections
    assert [detections.at_rank(rank, 0.3) for rank in (1, 2, 3)] == [7, 2, 4]
    points = torch.tensor([[30.0, 5], [99, 90], [128, 0]])
    assert [detections.nearest(point, 0.3) for point in points] == [7, 2, 4]
    assert detections.nearest(points[2], 0.5) == 2  # the third is too weak for this threshold
    # In the encoder the token under the point; of 4 x 4 tokens 2 x 2 are image.
    assert [view.token_at(detections.centres()[query], 0) for query in (7, 2, 4)] == [0, 5, 1]
    assert view.token_at(points[0], 1) == 16
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
    ("call", "named"),
    [
        (lambda view: view.query("decoder", 10), "--query 10: the decoder has 10"),
        (lambda view: view.query("encoder", 3), "--query 3: .* padding"),
        (lambda view: view.detections.at_rank(4, 0.3), "--detection 4: .* 1 .* to 3"),
        (lambda view: view.detections.at_rank(1, 0.95), "0.900; lower --score-thr, here 0.95"),
        (lambda view: view.token_at(torch.zeros(2), 2), "--level 2: the model has 2"),
        (lambda view: view.layers("encoder", "1"), "--layer 1: the encoder has 1"),
        (lambda view: view.layers("encoder", "first"), "--layer first"),
        (lambda view: view.heads("decoder", -1), "--head -1: .* decoder has 4"),
        (lambda view: view.layers("backbone", "last"), "--stage backbone"),
    ],
)
def test_what_is_not_there_is_named(view, call, named):
    with pytest.raises(InputError, match=named):
        call(view)
