"""Boxes and polygons as COCO has them, from the numbers in a file."""

from collections.abc import Sequence
from math import isfinite

from projects.reliable_runner.errors import InputError

_DECIMALS = 2  # COCO's own


def number(value: object, where: str) -> float:
    """A finite number, or `InputError` with ``where`` it should be."""
    try:
        if isfinite(result := float(value)):
            return result
    except (TypeError, ValueError, OverflowError):
        pass
    raise InputError(f"{where} is {value!r:.80}, no finite number")


def rectangle(x1: float, y1: float, x2: float, y2: float) -> dict:
    """An annotation's ``bbox`` [x, y, width, height]; it may be empty or leave the image."""
    return dict(bbox=_rounded((x1, y1, x2 - x1, y2 - y1)))


def polygon(points: Sequence[Sequence[float]], where: str) -> dict:
    """An annotation's ``segmentation`` and the ``bbox`` around it, from (n, 2) x and y in pixels, n >= 3."""
    if len(points) < 3:
        raise InputError(f"{where}: a polygon has at least 3 points, not {len(points)}")
    return dict(segmentation=[_rounded(side for point in points for side in point)], **around(points))


def around(points: Sequence[Sequence[float]]) -> dict:
    """The `rectangle` around ``points``, (n, 2), in any order."""
    xs, ys = zip(*points, strict=True)
    return rectangle(min(xs), min(ys), max(xs), max(ys))


def _rounded(values) -> list[float]:
    return [round(value, _DECIMALS) for value in values]
