"""Arrays that are images."""

import numpy as np

from ..errors import InputError


def as_image(array: np.ndarray, num_channels: int, name: str) -> np.ndarray:
    """An array in the form that a pipeline wants.

    Args:
        array: (h, w) or (h, w, channels). Where the model takes three, grey becomes three and a fourth
            (alpha) is dropped; bytes in the order of other machines are turned.
        num_channels: what the model takes.
        name: for the message.

    Returns:
        (h, w, num_channels), or (h, w) of one channel.

    Raises:
        InputError: it is empty, of another form, NaN or infinite, or not in [0, 255] where that is wanted.
    """
    wanted = f"(h, w, {num_channels})" if num_channels > 1 else "(h, w)"
    if array.ndim not in (2, 3) or not array.size:
        raise InputError(f"{name} is no image: its array is {array.shape} instead of {wanted}")
    if array.dtype.kind not in "biuf":
        raise InputError(f"{name} is no image: its array holds {array.dtype}")
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    given = 1 if array.ndim == 2 else array.shape[2]
    if num_channels == 3 and given == 1:
        array = np.repeat(array.reshape(*array.shape[:2], 1), 3, axis=2)
    elif num_channels == 3 and given == 4:
        array = array[..., :3]
    elif given != num_channels:
        raise InputError(f"{name} has {given} channels, but the model takes {num_channels}")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * 255
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name} is no image: it holds NaN or infinity")
    if num_channels == 3 and array.dtype != np.uint8:
        _check_range(array, name)
    return array


def _check_range(array: np.ndarray, name: str) -> None:
    low, high = array.min(), array.max()
    if array.dtype.kind == "f" and 0 < high <= 1:
        raise InputError(f"{name} has values in [{low:g}, {high:g}]; give them in [0, 255]: multiply by 255")
    if low < 0 or high > 255:
        raise InputError(f"{name} has values in [{low:g}, {high:g}] instead of [0, 255]")
