"""Each array is taken as the picture that it is, or refused in one line."""

import numpy as np
import pytest

from projects.reliable_runner.data.image_arrays import as_image, as_shown
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


def test_values_of_a_deep_model_are_taken_as_they_are():
    assert as_image(IMAGE[..., 0], 1, "x").shape == as_image(IMAGE[..., :1], 1, "x").shape == (2, 4)
    for channels in 3, 6:
        deep = np.full((2, 2, channels), 4095, ">u2")
        found = as_image(deep, channels, "x", any_range=True)
        assert found.dtype == np.float32 and (found == deep).all()
    with pytest.raises(InputError, match="1 channels.*takes 3"):
        as_image(IMAGE[..., 0], 3, "x", any_range=True)


def test_what_is_shown_has_three_channels_of_8_bits():
    assert as_shown(IMAGE) is IMAGE or (as_shown(IMAGE) == IMAGE).all()
    assert (as_shown(IMAGE[..., 0]) == IMAGE[..., :1]).all()
    ramp = np.linspace(-1000, 4095, 400, dtype=np.float32).reshape(20, 20)
    shown = as_shown(np.dstack([ramp, -ramp, 0 * ramp, ramp]))
    assert shown.dtype == np.uint8 and shown.shape == (20, 20, 3)
    assert shown[0, 0].tolist() == [0, 255, 0] and shown[-1, -1].tolist() == [255, 0, 0]
    assert abs(int(shown[10, 0, 0]) - 128) <= 2
