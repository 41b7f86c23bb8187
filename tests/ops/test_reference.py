"""The reference against a sum that is written out sample by sample."""

import math

import pytest
import torch

from ms_deform_attn import ms_deform_attn_fused_reference, ms_deform_attn_reference


def pixel(image: torch.Tensor, x: int, y: int) -> torch.Tensor:
    height, width, _ = image.shape
    inside = 0 <= x < width and 0 <= y < height
    return image[y, x] if inside else torch.zeros_like(image[0, 0])


def bilinear(image: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """The sample of a (height, width, channels) image at (x, y) in [0, 1]."""
    x, y = x * image.shape[1] - 0.5, y * image.shape[0] - 0.5
    left, top = math.floor(x), math.floor(y)
    total = torch.zeros_like(image[0, 0])
    for dx in (0, 1):
        for dy in (0, 1):
            weight = (1 - abs(x - left - dx)) * (1 - abs(y - top - dy))
            total = total + weight * pixel(image, left + dx, top + dy)
    return total


def test_equals_the_sum_over_samples():
    generator = torch.Generator().manual_seed(0)
    shapes, starts = [(3, 4), (2, 1), (1, 1)], [0, 12, 14]
    value = torch.randn(2, 15, 2, 3, generator=generator, dtype=torch.float64)
    locations = torch.rand(2, 4, 2, 3, 2, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.3
    weights = torch.rand(2, 4, 2, 3, 2, generator=generator, dtype=torch.float64)

    expected = torch.zeros(2, 4, 2, 3, dtype=torch.float64)
    for image, query, head, level, point in torch.cartesian_prod(
        *(torch.arange(n) for n in weights.shape)
    ).tolist():
        height, width = shapes[level]
        pixels = value[image, starts[level] : starts[level] + height * width, head]
        x, y = locations[image, query, head, level, point].tolist()
        expected[image, query, head] += weights[image, query, head, level, point] * bilinear(
            pixels.view(height, width, 3), x, y
        )

    output = ms_deform_attn_reference(value, torch.tensor(shapes), torch.tensor(starts), locations, weights)
    torch.testing.assert_close(output, expected.flatten(2), rtol=0, atol=1e-14)


@pytest.mark.parametrize("reference_dims", [2, 4])
def test_fused_places_offsets_and_takes_the_softmax(reference_dims):
    """Offsets are in pixels from a point; in halves of the box over num_points from a box."""
    torch.manual_seed(0)
    value, geometry = torch.randn(2, 12, 2, 5, dtype=torch.float64), ([(3, 4)], [0])
    references = torch.rand(2, 3, 1, reference_dims, dtype=torch.float64)
    offsets, logits = torch.rand(2, 3, 2, 1, 4, 2).double(), torch.rand(2, 3, 2, 1, 4).double()
    boxes = references[:, :, None, :, None]
    steps = boxes[..., 2:] / 2 / 4 if reference_dims == 4 else 1 / torch.tensor([4.0, 3.0])
    torch.testing.assert_close(
        ms_deform_attn_fused_reference(value, *geometry, references, offsets, logits),
        ms_deform_attn_reference(value, *geometry, boxes[..., :2] + offsets * steps, logits.softmax(-1)),
    )


@pytest.mark.parametrize("shape, start", [((3, 3), 0), ((2, 2), 5), ((0, 4), 0), ((2, 2), -1)])
def test_refuses_a_level_that_exceeds_the_value(shape, start):
    with pytest.raises(ValueError, match="level 0 .* has 8 positions"):
        ms_deform_attn_reference(
            torch.zeros(1, 8, 1, 1),
            [shape],
            [start],
            torch.zeros(1, 1, 1, 1, 1, 2),
            torch.zeros(1, 1, 1, 1, 1),
        )
