"""Image files of any depth and any number of channels, read as they are."""

import io
from contextlib import suppress

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

_NPY, _TIFF = b"\x93NUMPY", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_DEEP_MODES = ("I", "F")  # of Pillow; I;16 and its kin begin with I too
_RARELY_DEEP = ("PPM", "JPEG2000")  # Pillow does not say for colour


def read_stored(content: bytes) -> np.ndarray:
    """The values of an image file of this ``content``: PNG, JPEG, TIFF, ``.npy``, what else Pillow knows.

    Returns (h, w) or (h, w, channels), in the file's own type. Pictures of three or four channels come as BGR
    and BGRA, others in the order of the file. The pages of a TIFF are channels. EXIF turns nothing. What the
    decoder raises at a file that is damaged or cut short is not caught.
    """
    if content.startswith(_NPY):
        return np.load(io.BytesIO(content), allow_pickle=False)
    if content.startswith(_TIFF):
        return _read_tiff(content)
    with Image.open(io.BytesIO(content)) as image:
        image.load()  # raises if the file is cut short, which OpenCV does not always
    return _read_picture(content)


def read_if_deep(content: bytes) -> np.ndarray | None:
    """`read_stored` of what has more than 8 bits, or other than 1, 3 or 4 channels; None of other files."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            layout = _layout(image)
            is_plain = not image.mode.startswith(_DEEP_MODES) and ";16" not in layout and "XX" not in layout
            has_pages = image.format == "TIFF" and image.mode == "L" and image.n_frames > 1
            if is_plain and not has_pages and image.format not in _RARELY_DEEP:
                return None
    except UnidentifiedImageError:
        if not content.startswith((_NPY, *_TIFF)):
            return None
    array = read_stored(content)
    is_picture = array.dtype == np.uint8 and (array.ndim == 2 or array.shape[2] in (3, 4))
    return None if is_picture and not content.startswith(_NPY) else array


def stated_pixels(content: bytes) -> int:
    """How many pixels a file says it has, all pages of a TIFF together, of which nothing is decoded.

    0 of what Pillow does not know, which is no picture, or an array that takes all of its bytes; of a TIFF
    that Pillow does not know, the number of its values. Raises what the decoder does, and Pillow's
    ``DecompressionBombError`` at more than twice its ``MAX_IMAGE_PIXELS``.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            pages = image.n_frames if content.startswith(_TIFF) else 1
            return image.width * image.height * pages
    except UnidentifiedImageError:
        if not content.startswith(_TIFF):
            return 0
    from tifffile import TiffFile

    with TiffFile(io.BytesIO(content)) as file:
        return file.series[0].size


def _read_picture(content: bytes) -> np.ndarray:
    array = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    if array is None:
        raise UnidentifiedImageError("OpenCV cannot decode it")
    return array


def _read_tiff(content: bytes) -> np.ndarray:
    """OpenCV knows all compressions, but no more than a page and four channels."""
    with suppress(UnidentifiedImageError), Image.open(io.BytesIO(content)) as image:
        if image.n_frames == 1 and len(image.getbands()) != 2 and "XX" not in _layout(image):
            return _read_picture(content)
    from tifffile import TiffFile  # needed for nothing else

    with TiffFile(io.BytesIO(content)) as file:
        series = file.series[0]
        if len(series.pages) == 1 and series.keyframe.samplesperpixel in (1, 3, 4):
            return _read_picture(content)
        channels = [axis for axis in series.axes if axis not in "YX"]
        if len(channels) > 1:
            raise ValueError(
                f"its axes are {series.axes}, {series.shape}: more than height, width and channels"
            )
        return np.moveaxis(series.asarray(), series.axes.index(channels[0]), -1)


def _layout(image: Image.Image) -> str:
    """How the file holds the pixels: RGB;16B, RGBXX, ..."""
    return str(image.tile[0].args) if image.tile else ""
