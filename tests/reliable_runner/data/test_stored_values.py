"""The numbers that reach a model are those of the file."""

import io

import cv2
import numpy as np
import pytest

from projects.reliable_runner.data.image_loading import LoadImageFromFile
from projects.reliable_runner.data.stored_values import read_if_deep
from projects.reliable_runner.errors import InputError

VALUES = np.random.default_rng(0).integers(0, 4096, (10, 12, 6), dtype=np.uint16)


def npy(array: np.ndarray) -> bytes:
    target = io.BytesIO()
    np.save(target, array)
    return target.getvalue()


def picture(name: str, array: np.ndarray) -> bytes:
    return cv2.imencode(name, array)[1].tobytes()


def tiff(array: np.ndarray, **kwargs) -> bytes:
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not installed")
    target = io.BytesIO()
    tifffile.imwrite(target, array, photometric="minisblack", **kwargs)
    return target.getvalue()


GREY, COLOUR, PLANES = VALUES[..., 0], VALUES[..., :3], VALUES.transpose(2, 0, 1).copy()
KINDS = {  # how to make a file, and what it holds
    "grey 8 png": lambda: (picture(".png", GREY.astype(np.uint8)), GREY.astype(np.uint8)),
    "grey 16 png": lambda: (picture(".png", GREY), GREY),
    "colour 16 png": lambda: (picture(".png", COLOUR), COLOUR),
    "alpha 16 png": lambda: (picture(".png", VALUES[..., :4]), VALUES[..., :4]),
    "colour 16 tiff, LZW": lambda: (picture(".tiff", COLOUR), COLOUR),
    "6 tiff, zlib": lambda: (tiff(VALUES, planarconfig="contig", compression="zlib"), VALUES),
    "6 tiff, planes": lambda: (tiff(PLANES, planarconfig="separate"), VALUES),
    "6 tiff, pages": lambda: (tiff(PLANES), VALUES),
    "6 tiff, big-endian": lambda: (tiff(VALUES, planarconfig="contig", byteorder=">"), VALUES),
    "6 tiff, pages of 8 bits": lambda: (tiff((PLANES // 16).astype(np.uint8)), VALUES // 16),
    "2 tiff": lambda: (tiff(VALUES[..., :2], planarconfig="contig"), VALUES[..., :2]),
    "6 npy": lambda: (npy(VALUES), VALUES),
    "1 npy, big-endian": lambda: (npy(GREY[..., None].astype(">i4")), GREY),
    "6 npy, floats": lambda: (npy(VALUES / 4096), VALUES / 4096),
}


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_those_of_the_file(kind, tmp_path):
    content, values = KINDS[kind]()
    path = tmp_path / "image"
    path.write_bytes(content)
    loaded = LoadImageFromFile(color_type="unchanged")(dict(img_path=str(path), height=10, width=12))["img"]
    assert loaded.dtype == (np.uint8 if " 8 " in kind else np.float32) and loaded.dtype.isnative
    np.testing.assert_array_equal(loaded, values.astype(loaded.dtype))


@pytest.mark.parametrize("kind", [*KINDS][1:])
@pytest.mark.parametrize("backend", ["pillow", "cv2"])
def test_a_loader_of_8_bits_refuses_them(kind, backend, tmp_path):
    content, values = KINDS[kind]()
    path = tmp_path / "image"
    path.write_bytes(content)
    found = f"from {values.min()} to {values.max()}, channels: {values[0, 0].size}, "
    match = f"image {path} holds .*{found}.*color_type='unchanged'"
    for color_type in "color", "grayscale":
        with pytest.raises(InputError, match=match):
            LoadImageFromFile(color_type=color_type, imdecode_backend=backend)(dict(img_path=str(path)))


@pytest.mark.parametrize("kind", ["grey 8 png", "png", "jpg", "ppm", "tiff"])
def test_pictures_of_8_bits_are_none_of_them(kind):
    colour = picture(f".{kind}", VALUES[..., :3].astype(np.uint8)) if " " not in kind else KINDS[kind]()[0]
    assert read_if_deep(colour) is None


@pytest.mark.parametrize("kind", ["grey 16 png", "colour 16 tiff, LZW", "6 tiff, zlib", "6 npy"])
def test_a_file_that_is_cut_short_is_refused(kind, tmp_path):
    content, _ = KINDS[kind]()
    path = tmp_path / "image"
    for length in range(1, len(content) - 30, 97):
        path.write_bytes(content[:length])
        for color_type in "unchanged", "color":
            with pytest.raises(InputError, match=f"image {path} "):
                LoadImageFromFile(color_type=color_type)(dict(img_path=str(path)))


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.array([object()]), "cannot be decoded"),
        (np.zeros((2, 2), complex), "complex128"),
        (np.full((2, 2), np.nan), "NaN"),
        (np.zeros(4), r"\(4,\)"),
    ],
)
def test_arrays_that_are_no_images_are_refused(array, reason, tmp_path):
    target = io.BytesIO()
    np.save(target, array, allow_pickle=True)
    path = tmp_path / "x.npy"
    path.write_bytes(target.getvalue())
    with pytest.raises(InputError, match=f"{path} .*{reason}"):
        LoadImageFromFile(color_type="unchanged")(dict(img_path=str(path)))


def test_an_array_that_promises_more_than_it_holds_is_refused(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(npy(VALUES).replace(b"(10, 12, 6), }     ", b"(99999, 99999, 6), }"))
    with pytest.raises(InputError, match=f"{path} cannot be decoded"):
        LoadImageFromFile(color_type="unchanged")(dict(img_path=str(path)))


def test_channels_that_come_first_are_told(tmp_path):
    path = tmp_path / "x.npy"
    path.write_bytes(npy(VALUES.transpose(2, 0, 1)))
    with pytest.raises(InputError, match=r"its channels come first; save array.transpose\(1, 2, 0\)"):
        LoadImageFromFile(color_type="unchanged")(dict(img_path=str(path), height=10, width=12))
