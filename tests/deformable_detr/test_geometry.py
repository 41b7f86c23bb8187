"""Reference points and boxes against cases that can be counted by hand."""

import torch

from projects.deformable_detr.geometry import encoder_reference_points, inverse_sigmoid, refine
from projects.deformable_detr.levels import Levels

CPU = torch.device("cpu")


def test_reference_points_are_token_centres_of_the_valid_part():
    shapes = [(2, 4), (1, 2)]
    levels = Levels.of_batch([(8, 16), (8, 8)], (8, 16), shapes, CPU)
    points = encoder_reference_points(levels)
    assert points.shape == (2, 10, 2, 2)
    # Image 0 fills the batch: the same relative place on both levels.
    torch.testing.assert_close(points[0, 0], torch.tensor([[0.125, 0.25], [0.125, 0.25]]))
    # Image 1 is half as wide: its token is still at 0.125 of the padded level, 0.25 of the image.
    torch.testing.assert_close(points[1, 0], torch.tensor([[0.125, 0.25], [0.125, 0.25]]))
    torch.testing.assert_close(points[1, 8, :, 0], torch.tensor([0.25, 0.25]))


def test_inverse_sigmoid_inverts_and_stays_finite():
    x = torch.linspace(0.001, 0.999, 50, dtype=torch.float64)
    torch.testing.assert_close(inverse_sigmoid(x).sigmoid(), x)
    assert inverse_sigmoid(torch.tensor([-1.0, 0.0, 1.0, 2.0])).isfinite().all()


def test_refine_keeps_a_reference_that_is_not_corrected():
    boxes = torch.rand(3, 4) * 0.8 + 0.1
    torch.testing.assert_close(refine(torch.zeros(3, 4), boxes), boxes)
    refined = refine(torch.zeros(3, 4), boxes[:, :2])
    torch.testing.assert_close(refined[:, :2], boxes[:, :2])
    assert (refined[:, 2:] == 0.5).all()


def test_a_reference_near_the_border_is_held_eps_away():
    edge = torch.tensor([[1e-4, 0.5, 0.5, 1 - 1e-4]], dtype=torch.float64)
    torch.testing.assert_close(refine(torch.zeros(1, 4), edge), edge)
    held = torch.tensor([[1e-3 / (1e-3 + 1 - 1e-4), 0.5, 0.5, (1 - 1e-4) / (1 - 1e-4 + 1e-3)]]).double()
    torch.testing.assert_close(refine(torch.zeros(1, 4), edge, eps=1e-3), held)
