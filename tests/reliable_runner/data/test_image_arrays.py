"""Each array is taken as the picture that it is, or refused in one line."""

import numpy as np
import pytest

from projects.reliable_runner.data.image_arrays import as_image
from projects.reliable_runner.errors import InputError

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (IMAGE, IMAGE),
        (IMAGE.astype(">u2"), IMAGE),
        (IMAGE.astype(">f4"), IMAGE),
        (np.dstack([IMAGE, IMAGE[..., :1]]), IMAGE),
        (IMAGE[..., 0], IMAGE[..., :1].repeat(3, 2)),
        (IMAGE[..., :1], IMAGE[..., :1].repeat(3, 2)),
        (IMAGE > 3, (IMAGE > 3) * 255),
        (np.zeros((2, 2, 3)), np.zeros((2, 2, 3))),
    ],
)
def test_it_is_an_image(array, expected):
    found = as_image(array, 3, "x.png")
    assert found.dtype.isnative and np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((0, 5, 3), np.uint8), r"\(0, 5, 3\)"),
        (np.zeros(7, np.uint8), r"\(7,\)"),
        (np.zeros((2, 2, 2), np.uint8), "2 channels.*takes 3"),
        (np.full((2, 2, 3), np.nan), "NaN"),
        (np.full((2, 2, 3), 0.5), r"\[0.5, 0.5\].*multiply by 255"),
        (np.full((2, 2, 3), 4095, np.uint16), r"4095\] instead of \[0, 255\]"),
        (np.full((2, 2, 3), -1), "-1"),
        (np.array([["a", "b"]]), "holds <U1"),
    ],
)
def test_it_is_none(array, reason):
    with pytest.raises(InputError, match=f"x.png .*{reason}"):
        as_image(array, 3, "x.png")


def test_other_numbers_of_channels_are_taken_as_they_are():
    assert as_image(IMAGE[..., 0], 1, "x").shape == (2, 4)
    deep = np.full((2, 2, 6), 4095, np.uint16)
    assert as_image(deep, 6, "x") is deep
