"""Where queries come from."""

import math

import pytest
import torch
from torch import nn

from projects.deformable_detr.levels import Levels
from projects.deformable_detr.queries import TwoStageQueries
from projects.dino.mixed_queries import MixedQueries

CPU = torch.device("cpu")


def test_tokens_propose_boxes_around_their_centres():
    """Paper, section A.4: side 0.05 on the finest level, doubled on the next."""
    levels = Levels.of_batch([(8, 8), (8, 4)], (8, 8), [(4, 4), (2, 2)], CPU)
    boxes, usable = TwoStageQueries(3, 8).token_boxes(levels)
    sizes = torch.tensor([0.05] * 16 + [0.1] * 4)
    torch.testing.assert_close(boxes[0].sigmoid()[:, 2], sizes)
    torch.testing.assert_close(boxes[0, 5].sigmoid(), torch.tensor([0.375, 0.375, 0.05, 0.05]))
    assert usable[0].all()
    # Half of the second image is padding; in the valid half x runs over the whole image.
    assert usable[1].view(-1)[:16].view(4, 4).tolist() == [[True, True, False, False]] * 4
    torch.testing.assert_close(boxes[1, 1].sigmoid()[:2], torch.tensor([0.75, 0.125]))
    assert (boxes[1][~usable[1]] == math.inf).all()


@pytest.mark.parametrize("kind", [TwoStageQueries, MixedQueries])
def test_more_queries_than_tokens_take_every_token(kind):
    levels = Levels.of_batch([(8, 8)], (8, 8), [(2, 2)], CPU)
    queries = kind(9, 8)(torch.randn(1, 4, 8), levels, nn.Linear(8, 3), nn.Linear(8, 4))
    assert queries.query.shape == (1, 4, 8)
    assert queries.reference_points.shape == (1, 4, 4)
