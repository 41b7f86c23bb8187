"""Reference points, token centres, and boxes before the sigmoid.

Everything here is float32 or better, under autocast too: half precision loses entire pixels.
"""

import torch
import torch.nn.functional as F
from mmdet.structures.bbox import bbox_cxcywh_to_xyxy
from torch import Tensor

from .levels import Levels


def upcast(x: Tensor) -> Tensor:
    """``x`` in float32 if it is half precision; float32 and float64 stay as they are."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def inverse_sigmoid(x: Tensor, eps: float = 1e-5) -> Tensor:
    """The logit of ``x`` in [0, 1], any shape; both ends are held ``eps`` away from infinity."""
    return torch.log(x.clamp(min=eps, max=1.0) / (1 - x).clamp(min=eps, max=1.0))


def refine(deltas_unact: Tensor, reference_points: Tensor, eps: float = 1e-5) -> Tensor:
    """Move reference points by predicted deltas (paper, section A.4).

    Args:
        deltas_unact: (..., 4), corrections of (cx, cy, w, h) before the sigmoid.
        reference_points: (..., 2 or 4) in [0, 1];
            a point has no size to correct, so the deltas give it.
        eps: see `inverse_sigmoid`.

    Returns:
        Boxes (..., 4), (cx, cy, w, h) in [0, 1], float32 or better.
    """
    reference_unact = inverse_sigmoid(reference_points, eps)
    size_unknown = 4 - reference_unact.shape[-1]
    return (upcast(deltas_unact) + F.pad(reference_unact, (0, size_unknown))).sigmoid()


def boxes_in_pixels(boxes: Tensor, img_sizes: Tensor) -> Tensor:
    """(bs, n, 4), cx, cy, w, h in [0, 1], to x1, y1, x2, y2 in images of heights and widths (bs, 2)."""
    sizes = img_sizes.to(boxes.dtype).flip(1).repeat(1, 2)[:, None]  # w, h, w, h
    return torch.minimum((bbox_cxcywh_to_xyxy(boxes) * sizes).clamp(min=0), sizes)


def encoder_reference_points(levels: Levels) -> Tensor:
    """The centre of every token, as seen from every level (paper, section A.4).

    Returns:
        (bs, num_value, num_levels, 2), x and y in units of the padded level.
    """
    points = []
    for level, (h, w) in enumerate(levels.shapes):
        y, x = token_centres(h, w, levels.valid_ratios.device)
        centre = torch.stack((x.flatten(), y.flatten()), -1)  # (h * w, 2)
        points.append(centre / levels.valid_sizes[:, None, level])
    return torch.cat(points, 1)[:, :, None] * levels.valid_ratios[:, None]


def token_centres(h: int, w: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """y and x of the centres of h x w tokens, each (h, w), in tokens."""
    y = torch.arange(h, dtype=torch.float32, device=device) + 0.5
    x = torch.arange(w, dtype=torch.float32, device=device) + 0.5
    return torch.meshgrid(y, x, indexing="ij")


def sine_embedding(position: Tensor, num_feats: int, temperature: float = 10000) -> Tensor:
    """Sines and cosines of a position, interleaved (Vaswani et al. 2017, section 3.5).

    Args:
        position: any shape (*), in radians at the highest frequency.
        num_feats: number of features, even.
        temperature: base of the geometric series of wavelengths.

    Returns:
        (*, num_feats).
    """
    index = torch.arange(num_feats, dtype=torch.float32, device=position.device)
    angle = position[..., None] / temperature ** (2 * (index // 2) / num_feats)
    return torch.stack((angle[..., 0::2].sin(), angle[..., 1::2].cos()), -1).flatten(-2)
