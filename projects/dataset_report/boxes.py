"""Boxes against their images."""

from math import isfinite

import numpy as np

from .finding import Finding

# Annotation tools round; a pixel more or less is no fault.
_TOLERANCE = 1.0
_FEW_BOXES = 10


def box_fault(ann: dict, image_width: float, image_height: float) -> str | None:
    """Say why nothing can be learnt from an annotation, None if something can.

    Args:
        ann: holds ``bbox`` (x, y, width, height in pixels) and ``area``.
        image_width: in pixels.
        image_height: in pixels.
    """
    x, y, width, height = ann["bbox"]
    if not all(map(isfinite, (x, y, width, height, ann["area"]))):
        return "not finite"
    if min(width, height) <= 0:
        return "of zero or negative width or height"
    if ann["area"] <= 0:
        return "whose 'area' is zero or negative"
    if min(width, height) < 1:
        return "thinner than a pixel"
    if x >= image_width or y >= image_height or x + width <= 0 or y + height <= 0:
        return "outside the image"
    return None


def reaches_out(boxes: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Tell which boxes leave their image by more than a pixel.

    Args:
        boxes: (n, 4), x, y, width, height.
        sizes: (n, 2), width and height of the image of each.

    Returns:
        (n,), bool.
    """
    ends = boxes[:, :2] + boxes[:, 2:]
    return ((boxes[:, :2] < -_TOLERANCE) | (ends > sizes + _TOLERANCE)).any(1)


def check_corners(boxes: np.ndarray, sizes: np.ndarray) -> list[Finding]:
    """Find out whether boxes were written as x1, y1, x2, y2 instead of x, y, width, height.

    A box speaks for it if it leaves its image as x, y, width, height, but lies in it, with x2 > x1 and
    y2 > y1, as corners. In a file of corners every box lies in its image as corners, and about three in four
    speak for it: those whose centre is right of the middle or below it. So it is an error if 99% of the boxes
    could be corners and half of them (at least ten) speak for it; a warning if a twentieth does.

    Args:
        boxes: (n, 4), as in the file.
        sizes: (n, 2), width and height of the image of each.
    """
    if not len(boxes):
        return []
    first, second = boxes[:, :2], boxes[:, 2:]
    could_be = ((first >= -_TOLERANCE) & (second > first) & (second <= sizes + _TOLERANCE)).all(1)
    speaks = could_be & reaches_out(boxes, sizes)
    if speaks.mean() < 0.05:
        return []
    overwhelming = could_be.mean() >= 0.99 and speaks.mean() >= 0.5 and speaks.sum() >= _FEW_BOXES
    return [
        Finding(
            "boxes_as_corners",
            f"{speaks.mean():.0%} of the {len(boxes)} boxes leave their image as x, y, width, height, but "
            f"lie in it as x1, y1, x2, y2; {could_be.mean():.0%} could be such corners",
            remedy="COCO's boxes are x, y, width, height: write x1, y1, x2 - x1, y2 - y1.",
            is_error=bool(overwhelming),
        )
    ]
