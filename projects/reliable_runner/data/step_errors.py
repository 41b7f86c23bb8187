"""A pipeline step that fails is named, with the image that it failed at."""

import traceback
from collections.abc import Callable, Iterator
from functools import wraps
from types import FrameType

import cv2
import numpy as np
from mmcv.transforms import BaseTransform

from ..errors import InputError, first_line

_THIN = (
    ". A very thin image has no pixel left after a resize: filter_cfg=dict(min_size=N) leaves out training "
    "images with a side below N pixels; of other images take it out of the list"
)


def name_steps(load: Callable) -> Callable:
    """A method that loads an item; what a step of its pipeline raises becomes an `InputError` of one line.

    It names the innermost step with its settings, path and size of the image, and the cause.
    """

    @wraps(load)
    def load_or_explain(*args, **kwargs) -> object:
        try:
            return load(*args, **kwargs)
        except InputError:
            raise
        except Exception as error:
            frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
            steps = [frame for frame in frames if isinstance(frame.f_locals.get("self"), BaseTransform)]
            if not steps:
                raise
            step = " ".join(repr(steps[-1].f_locals["self"]).split())
            images = ", ".join(_images(steps[-1])) or "an image"
            thin = _THIN if isinstance(error, cv2.error) else ""
            raise InputError(
                f"{images}: {step} fails: {type(error).__name__}: {first_line(error)}{thin}"
            ) from error

    return load_or_explain


def _images(frame: FrameType) -> Iterator[str]:
    """Path and size of each image that a step has at hand: of several, one is the cause."""
    for value in frame.f_locals.values():
        if isinstance(value, dict) and isinstance(image := value.get("img"), np.ndarray):
            height, width = image.shape[:2]
            path = value.get("img_path")
            yield f"{f'image {path}' if path else 'an image'} ({width}x{height})"
