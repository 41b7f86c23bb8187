"""The attention of one layer as a page gets it: numbers rounded and packed, positions in pixels."""

import base64
import zlib

import numpy as np
import torch
from torch import Tensor

from .backbone_attention import BackboneAttention
from .frame import ImageFrame
from .record import Attention

PIXELS = 0.1  # positions are rounded to so many pixels of the original image
WEIGHTS = 1 / 255
_DTYPES = ("uint8", "int16", "int32")


def attention_data(frame: ImageFrame, attention: Attention, queries: Tensor) -> dict:
    """The attention of some queries (n,) of the first image.

    Returns:
        ``heads``, their number; ``levels``, (h, w) of each without padding; ``corners``, where the first and
        the last corner of all levels are in the image; ``references`` (n, 2), not of a dense decoder; and

        - of sampling points ``offsets`` from the rounded references (n, heads, levels, points, 2), and
          ``weights`` (n, heads, levels, points);
        - of dense attention ``peaks`` (n, heads), the largest weights, and ``weights`` (n, heads, h * w) in
          parts of them.
    """
    data = dict(heads=attention.num_heads, levels=attention.valid_shapes, corners=_corners(frame, 1, 1))
    weights = attention.weights[0, queries]
    if attention.reference_points is not None:
        references = frame.to_pixels(attention.reference_points[0, queries, :2])
        references = (references / PIXELS).round() * PIXELS
        data["references"] = pack(references, PIXELS)
    if attention.locations is None:
        (h, w), shape = attention.valid_shapes[0], attention.masks[0].shape[1:]
        weights = weights.unflatten(-1, shape)[..., :h, :w].flatten(2)
        peaks = weights.amax(-1)
        return data | dict(peaks=pack(peaks, 1e-6), weights=pack(weights / peaks[..., None], WEIGHTS))
    offsets = frame.to_pixels(attention.locations[0, queries]) - references[:, None, None, None]
    return data | dict(offsets=pack(offsets, PIXELS), weights=pack(weights, WEIGHTS))


def block_data(input_frame: ImageFrame, block: BackboneAttention, tokens: Tensor) -> dict:
    """The attention of some tokens (n,) of a backbone's block.

    Returns:
        ``name``; ``heads``, ``levels``, ``corners`` and ``references`` as of `attention_data`, but padding is
        part of the level; ``grid`` (points, 2), ``points`` (groups, points, 2), and ``weights``
        (n, heads, points).
    """
    h, w = block.x.shape[2:]
    grid, points, weights = block.seen(tokens)
    return dict(
        name=block.name,
        heads=block.num_heads,
        levels=[(h, w)],
        corners=_corners(input_frame, w * block.stride, h * block.stride),
        references=pack(input_frame.to_pixels(block.centres(tokens)), PIXELS),
        grid=pack(input_frame.to_pixels(grid), PIXELS),
        points=pack(input_frame.to_pixels(points), PIXELS),
        weights=pack(weights.transpose(0, 1), WEIGHTS),
    )


def _corners(frame: ImageFrame, width: float, height: float) -> list[list[float]]:
    """Where (0, 0) and (width, height), in the frame's units, are in the image: mirrored if it is flipped."""
    return frame.to_pixels(torch.tensor([[0.0, 0.0], [width, height]])).tolist()


def pack(values: Tensor, step: float) -> dict:
    """Round to multiples of ``step``: ``dtype``, ``shape``, ``step``, and ``data``, which packed.js reads.

    ``data`` is base64 of zlib's format. Of all integers the first bytes come first, then all second ones, low
    ones before high ones: neighbouring numbers share their high bytes, so it deflates to less.
    """
    numbers = (values.double() / step).round().numpy()
    low, high = numbers.min(initial=0), numbers.max(initial=0)
    dtype = next(name for name in _DTYPES if np.iinfo(name).min <= low and high <= np.iinfo(name).max)
    numbers = np.ascontiguousarray(numbers, np.dtype(dtype).newbyteorder("<"))
    planes = numbers.view(np.uint8).reshape(-1, numbers.itemsize).T
    data = base64.b64encode(zlib.compress(planes.tobytes())).decode()
    return dict(dtype=dtype, shape=list(values.shape), step=step, data=data)
