"""What counts as the same detections."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from projects.deployment.parity import batches, match


def found(scores: list[float], labels: list[int], shift: float = 0.0) -> InstanceData:
    corners = torch.arange(len(scores))[:, None] * 10.0 + torch.tensor([0.0, 0.0, 5.0, 5.0])
    return InstanceData(bboxes=corners + shift, scores=torch.tensor(scores), labels=torch.tensor(labels))


FIRST = found([0.9, 0.5, 0.2], [0, 1, 2])


def test_order_does_not_count():
    assert match(FIRST, FIRST[[2, 0, 1]], 100, 1e-4) == (0, 0, 0)


def test_differences_are_of_logits_and_in_shares_of_the_image():
    logits, boxes, missing = match(FIRST, found([0.9, 0.6, 0.2], [0, 1, 2], shift=0.5), 100, 1e-4)
    assert logits == pytest.approx(math.log(1.5)) and boxes == pytest.approx(0.005) and missing == 2


def test_other_labels_and_fewer_detections_are_differences():
    assert match(FIRST, found([0.9, 0.5, 0.2], [0, 0, 2]), 100, 1e-4)[2] == 1
    assert match(FIRST, FIRST[:2], 100, 1e-4)[2] == 3
    # What ties with the last may be another.
    assert match(FIRST, found([0.9, 0.5, 0.2], [0, 1, 1]), 100, 1e-4)[2] == 0


def test_batches_have_padding_and_other_sizes():
    cases = dict(batches([torch.zeros(3, 60, 90), torch.zeros(3, 80, 40)]))
    assert [image.shape[1:] for image in cases["padded batch"]] == [(60, 90), (60, 60), (36, 40)]
    assert cases["transposed"][0].shape == (3, 40, 36)
