"""Arrays that are images."""

import numpy as np

from ..errors import InputError


def as_values(array: np.ndarray, name: str) -> np.ndarray:
    """An array (h, w) or (h, w, channels) of any numbers in a type that the steps of a pipeline take.

    Returns (h, w), or (h, w, channels) of more than one channel: uint8 as it is, bool as 0 and 255, all else
    as float32 of the same values. `InputError`, which says ``name``, if the array is empty, of another form,
    NaN or infinite.
    """
    if array.ndim not in (2, 3) or not array.size:
        raise InputError(
            f"{name} is no image: its array is {array.shape} instead of (h, w) or (h, w, channels)"
        )
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} is no image: its array holds {array.dtype}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if array.dtype != np.uint8:
        array = array.astype(np.float32)
        if not np.isfinite(array).all():
            raise InputError(f"{name} is no image: it holds NaN or infinity")
    return array


def as_image(array: np.ndarray, num_channels: int, name: str, any_range: bool = False) -> np.ndarray:
    """An array (see `as_values`) as a model wants it: (h, w, num_channels), or (h, w) of one channel.

    Where the model takes three channels of 8 bits, grey becomes three and a fourth (alpha) is dropped;
    ``any_range`` is for a model of more than 8 bits, whose values are taken as they are. `InputError`, which
    says ``name``, if the array is no image, has other channels, or leaves the [0, 255] that is wanted.
    """
    array = as_values(array, name)
    if num_channels == 3 and not any_range:
        array = np.stack([array] * 3, 2) if array.ndim == 2 else array
        array = array[..., :3] if array.shape[2] == 4 else array
    if channels_of(array) != num_channels:
        raise InputError(f"{name} has {channels_of(array)} channels, but the model takes {num_channels}")
    low, high = array.min(), array.max()
    if array.dtype != np.uint8 and not any_range and (low < 0 or 0 < high <= 1 or high > 255):
        raise InputError(
            f"{name} has values in [{low:g}, {high:g}] instead of [0, 255]; multiply by 255 what is in [0, 1]"
        )
    return array


def channels_of(image: np.ndarray) -> int:
    """How many channels an image (h, w) or (h, w, channels) has."""
    return 1 if image.ndim == 2 else image.shape[2]


def as_shown(image: np.ndarray) -> np.ndarray:
    """An image (h, w) or (h, w, channels) to look at: its first three channels, or the first of fewer.

    What is not uint8 is scaled channel by channel: its percentiles 1 and 99 become 0 and 255. Returns
    (h, w, 3), uint8.
    """
    image = image[..., None] if image.ndim == 2 else image
    image = image[..., :3] if image.shape[2] >= 3 else image[..., [0, 0, 0]]
    if image.dtype == np.uint8:
        return image
    low, high = np.percentile(image, (1, 99), axis=(0, 1))
    scaled = (image - low) / np.maximum(high - low, np.finfo(np.float32).tiny)
    return (scaled.clip(0, 1) * 255).round().astype(np.uint8)
