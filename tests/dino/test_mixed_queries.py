"""Queries whose places the encoder proposes and whose contents are learnt."""

import torch
from torch import nn

from projects.deformable_detr.levels import Levels
from projects.dino.mixed_queries import MixedQueries

CPU = torch.device("cpu")


def test_mixed_queries_are_the_tokens_of_the_best_class_with_contents_of_their_own():
    """DINO, section 3.4: by the highest score of any class, not of the first."""
    levels = Levels.of_batch([(8, 8)], (8, 8), [(4, 4)], CPU)
    queries, memory = MixedQueries(2, 8), torch.randn(1, 16, 8, requires_grad=True)
    scores = torch.zeros(1, 16, 3)
    scores[0, 5, 2], scores[0, 9, 1], scores[0, 0, 0] = 3.0, 2.0, 1.0
    found = queries(memory, levels, lambda _: scores, nn.Linear(8, 4))
    assert torch.equal(found.enc_outputs_class[0], scores[0, [5, 9]])
    assert torch.equal(found.query[0], queries.query_embedding.weight) and found.query_pos is None
    assert torch.equal(found.reference_points, found.enc_outputs_coord)
    assert found.enc_outputs_coord.requires_grad and not found.reference_points.requires_grad
