"""An image that cannot be read whole is an error with its name; others have OpenCV's pixels."""

import numpy as np
import pytest
from mmcv.transforms import LoadImageFromFile as MMCVLoadImageFromFile
from PIL import Image

from projects.reliable_runner.data.image_loading import LoadImageFromFile
from projects.reliable_runner.errors import InputError


@pytest.fixture(scope="module")
def image() -> Image.Image:
    """A smooth 160x120 picture in colour."""
    coarse = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC)


def save(image: Image.Image, path, **kwargs) -> str:
    image.save(path, **kwargs)
    return str(path)


def converted(image: Image.Image, mode: str) -> Image.Image:
    result = image.convert(mode)
    if mode in ("LA", "RGBA"):
        result.putalpha(image.convert("L"))
    return result


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


@pytest.mark.parametrize(
    ("name", "mode", "kwargs"),
    [
        ("a.jpg", "RGB", {"quality": 90}),
        ("a.jpg", "RGB", {"progressive": True}),
        ("a.jpg", "L", {}),
        ("a.jpg", "CMYK", {}),
        ("a.jpg", "RGB", {"exif": rotated()}),
        ("a.png", "RGB", {}),
        ("a.png", "RGBA", {}),
        ("a.png", "LA", {}),
        ("a.png", "P", {}),
        ("a.bmp", "RGB", {}),
    ],
)
@pytest.mark.parametrize("to_float32", [False, True])
def test_pixels_and_shapes_are_those_of_opencv(image, tmp_path, name, mode, kwargs, to_float32):
    path = save(converted(image, mode), tmp_path / name, **kwargs)
    ours = LoadImageFromFile(to_float32=to_float32)({"img_path": path})
    theirs = MMCVLoadImageFromFile(to_float32=to_float32)({"img_path": path})
    assert ours.keys() == theirs.keys()
    assert ours["img_shape"] == theirs["img_shape"] and ours["ori_shape"] == theirs["ori_shape"]
    assert ours["img"].dtype == theirs["img"].dtype
    np.testing.assert_allclose(ours["img"].astype(float), theirs["img"], atol=2)


@pytest.mark.parametrize(("name", "kwargs"), [("a.jpg", {}), ("a.jpg", {"progressive": True}), ("a.png", {})])
def test_no_cut_passes_unnoticed(image, tmp_path, name, kwargs):
    path = save(image, tmp_path / name, **kwargs)
    whole = LoadImageFromFile()({"img_path": path})["img"]
    content = (tmp_path / name).read_bytes()
    kinds = set()
    for length in (1, 10, 100, len(content) // 2, len(content) - 300, len(content) - 40):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(InputError, match=rf"image {path} .*cut short") as error:
            LoadImageFromFile()({"img_path": path})
        kinds.add(str(error.value))
    assert len(kinds) > 1
    for length in range(len(content) - 30, len(content)):  # after the last pixel nothing is lost
        (tmp_path / name).write_bytes(content[:length])
        try:
            np.testing.assert_array_equal(LoadImageFromFile()({"img_path": path})["img"], whole)
        except InputError as error:
            assert path in str(error)


@pytest.mark.parametrize("backend", ["pillow", "cv2"])
@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "does not exist"), (b"", "is empty"), (b"<html>404</html>" * 9, "is not an image")],
)
def test_no_image_at_all(tmp_path, content, reason, backend):
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=f"image {path} {reason}"):
        LoadImageFromFile(imdecode_backend=backend)({"img_path": str(path)})
    assert LoadImageFromFile(ignore_empty=True)({"img_path": str(path)}) is None


def test_size_that_the_annotation_file_does_not_state(image, tmp_path):
    path = save(image, tmp_path / "a.png")
    LoadImageFromFile()({"img_path": path, "height": 120, "width": 160})
    with pytest.raises(InputError, match=f"{path} is 160x120 .* says 320x240: its boxes"):
        LoadImageFromFile()({"img_path": path, "height": 240, "width": 320})


def test_size_stated_before_exif_rotation(image, tmp_path):
    path = save(image, tmp_path / "a.jpg", exif=rotated())
    stored = {"img_path": path, "height": 120, "width": 160}
    with pytest.raises(InputError, match="is 120x160 .* says 160x120: .*color_ignore_orientation"):
        LoadImageFromFile()(dict(stored))
    loaded = LoadImageFromFile(color_type="color_ignore_orientation")(dict(stored))
    assert loaded["img_shape"] == (120, 160)
