"""The sizes at which the op is timed, and inputs of these sizes."""

from dataclasses import dataclass

import torch
from torch import Tensor

LEVELS = {
    "800x1333": ((100, 167), (50, 84), (25, 42), (13, 21)),
    "640x640": ((80, 80), (40, 40), (20, 20)),
}


@dataclass(frozen=True)
class Case:
    """Sizes; without ``num_queries``, there is one for each pixel, as in an encoder."""

    levels: str = "800x1333"
    bs: int = 1
    num_queries: int | None = None
    num_heads: int = 8
    head_dims: int = 32
    num_points: int = 4

    def inputs(self, device: str, num_queries: int | None = None) -> dict[str, Tensor]:
        """All that any candidate takes. No sample is within a tenth of a pixel of a knot."""
        shapes = torch.tensor(LEVELS[self.levels])
        areas = shapes.prod(-1)
        if self.num_queries is None:
            centres = [
                torch.cartesian_prod((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w)
                for h, w in shapes.tolist()
            ]
            points = torch.cat(centres).flip(-1)[:num_queries].expand(self.bs, -1, -1)
        else:
            points = torch.rand(self.bs, min(self.num_queries, num_queries or 10**9), 2)
        points = points[:, :, None].expand(-1, -1, len(shapes), -1).contiguous()
        sizes = (*points.shape[:2], self.num_heads, len(shapes), self.num_points)
        width_height = shapes.flip(-1)[:, None]
        centre = points[:, :, None, :, None] * width_height
        pixels = (centre + 2 * torch.randn(*sizes, 2)).floor() + 0.1 + 0.8 * torch.rand(*sizes, 2)
        logits = torch.randn(sizes)
        inputs = {
            "value": torch.randn(self.bs, int(areas.sum()), self.num_heads, self.head_dims),
            "points": points,
            "offsets": pixels + 0.5 - centre,
            "logits": logits,
            "locations": (pixels + 0.5) / width_height,
            "weights": logits.flatten(3).softmax(-1).view(sizes),
        }
        inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
        return inputs | {"shapes": shapes, "starts": areas.cumsum(0) - areas}


CASES = {
    "encoder": Case(),
    "encoder, batch 2": Case(bs=2),
    "decoder": Case(num_queries=300),
    "decoder, batch 8": Case(num_queries=300, bs=8),
    "RT-DETR decoder": Case("640x640", num_queries=300),
    "RT-DETR encoder": Case("640x640"),
    "33 channels": Case("640x640", num_queries=900, head_dims=33),
}
