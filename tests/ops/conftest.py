"""The inputs that drive all tests of the op, on each device."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """A case: the levels and all other sizes."""

    shapes: tuple[tuple[int, int], ...]
    bs: int = 2
    num_heads: int = 2
    head_dims: int = 8
    num_queries: int = 6
    num_points: int = 2
    contiguous: bool = True

    def inputs(self, dtype: torch.dtype, device: str) -> list[Tensor]:
        """value, spatial_shapes, level_start_index, sampling_locations, attention_weights."""
        generator = torch.Generator().manual_seed(0)

        def rand(*shape: int) -> Tensor:
            if self.contiguous:
                return torch.rand(shape, generator=generator, dtype=dtype).to(device)
            return (
                torch.rand(shape[::-1], generator=generator, dtype=dtype)
                .to(device)
                .permute(*range(len(shape) - 1, -1, -1))
            )

        areas = torch.tensor([height * width for height, width in self.shapes])
        samples = (self.bs, self.num_queries, self.num_heads, len(self.shapes), self.num_points)
        return [
            rand(self.bs, int(areas.sum()), self.num_heads, self.head_dims) - 0.5,
            torch.tensor(self.shapes),
            areas.cumsum(0) - areas,
            rand(*samples, 2) * 1.6 - 0.3,  # some inside, some at the border, some outside
            rand(*samples),
        ]

    def fused_inputs(self, dtype: torch.dtype, device: str, reference_dims: int) -> list[Tensor]:
        """value, spatial_shapes, level_start_index, reference_points, offsets, logits."""
        value, shapes, starts, locations, weights = self.inputs(dtype, device)
        points = locations[:, :, :1, :, 0].squeeze(2)  # (bs, num_queries, num_levels, 2)
        if reference_dims == 4:
            points = torch.cat([points, points.flip(-1).abs() + 0.1], dim=-1)
        return [value, shapes, starts, points, locations * 9 - 4, weights * 6 - 3]


PYRAMID = ((6, 4), (3, 5), (1, 1))
CASES = {
    "1_channel": Sizes(PYRAMID, head_dims=1, num_heads=5),
    "3_channels": Sizes(PYRAMID, head_dims=3, num_heads=3, bs=3),
    "16_channels": Sizes(PYRAMID, head_dims=16, num_heads=4),
    "32_channels": Sizes(PYRAMID, head_dims=32),
    "33_channels": Sizes(PYRAMID, head_dims=33, num_heads=1, num_points=5),
    "64_channels": Sizes(PYRAMID, head_dims=64, bs=1, num_points=1),
    "128_channels": Sizes(PYRAMID, head_dims=128, bs=1, num_queries=2),
    "256_channels": Sizes(PYRAMID, head_dims=256, bs=1, num_heads=1, num_queries=2),
    "a_query_for_each_pixel": Sizes(((10, 9), (3, 5)), num_queries=105, head_dims=4),
    "one_pixel": Sizes(((1, 1),), num_queries=9),
    "five_levels": Sizes(((4, 4), (2, 2), (1, 3), (2, 1), (1, 1)), num_points=3),
    "more_pixels_than_samples": Sizes(((20, 30),), num_queries=3),
    "no_queries": Sizes(PYRAMID, num_queries=0),
    "no_images": Sizes(PYRAMID, bs=0),
    "not_contiguous": Sizes(PYRAMID, contiguous=False),
    "not_contiguous_few_samples": Sizes(((20, 30),), num_queries=3, contiguous=False),
}


@pytest.fixture(params=CASES)
def sizes(request) -> Sizes:
    return CASES[request.param]


@pytest.fixture(params=["cpu", "cuda"])
def device(request) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return request.param
