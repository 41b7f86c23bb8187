"""Reading an image so that a damaged file is an error and never a grey picture."""

import io
import os
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress

import mmcv
import numpy as np
from mmcv.transforms import LoadImageFromFile as _LoadImageFromFile
from mmengine import fileio
from mmengine.dataset import BaseDataset
from PIL import Image, UnidentifiedImageError

from ..errors import InputError, first_line
from .image_arrays import as_values, channels_of
from .stored_values import read_if_deep, read_stored


class LoadImageFromFile(_LoadImageFromFile):
    """mmcv's ``LoadImageFromFile``, by default with Pillow, which notices a file that is cut short.

    OpenCV 4 fills the missing part with grey and says nothing. The pixels are those that OpenCV gives, EXIF
    orientation included.

    ``color_type`` "unchanged" is for files of any depth and number of channels, see `read_stored` and
    `as_values`; the others are for pictures of 8 bits. With ``ignore_empty`` an image that cannot be read is
    passed over (another one is drawn for training) instead of raising.
    """

    def __init__(self, imdecode_backend: str = "pillow", **kwargs) -> None:
        super().__init__(imdecode_backend=imdecode_backend, **kwargs)

    def transform(self, results: dict) -> dict | None:
        """Read ``results["img_path"]``; set ``img``, ``img_shape`` and ``ori_shape`` (h, w).

        `InputError` if the file is missing, can't be decoded (see `decode`), or is not of the ``height`` and
        ``width`` that the annotation file states.
        """
        path = results["img_path"]
        try:
            img = self.decode(self._read(path), path)
        except InputError:
            if self.ignore_empty:
                return None
            raise
        _check_size(results, img.shape)
        results["img"] = img
        results["img_shape"] = results["ori_shape"] = img.shape[:2]
        return results

    def _read(self, path: str) -> bytes:
        # A folder is no file, nor a device, which could be read for ever.
        if "://" not in path and not os.path.isfile(path):
            hint = "check data_root, data_prefix and file_name in the annotation file"
            raise InputError(f"image {path} does not exist; {hint}")
        try:
            return fileio.get(path, backend_args=self.backend_args)
        except Exception as error:  # of a store, too
            raise InputError(f"image {path} can't be read ({first_line(error)})") from error

    def decode(self, content: bytes, name: str) -> np.ndarray:
        """The image in the contents of a file.

        Returns (h, w, 3; BGR) in colour, (h, w) in grey; with "unchanged" (h, w) or (h, w, channels), uint8
        of files of 8 bits, else float32. `InputError`, which says ``name``, if it is empty, cut short, no
        image, or (unless "unchanged") has more than 8 bits or other channels than a picture.
        """
        try:
            img = self._decode(content, name)
        except InputError:
            raise
        except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, cv2.error, ...
            raise InputError(f"image {name} {_reason(content, name, error)}") from error
        return img.astype(np.float32) if self.to_float32 else img

    def _decode(self, content: bytes, name: str) -> np.ndarray:
        if self.color_type == "unchanged":
            return as_values(read_stored(content), f"image {name}")
        if (deep := read_if_deep(content)) is not None:
            raise InputError(
                f"image {name} holds {deep.dtype} from {deep.min()} to {deep.max()}, channels: "
                f"{channels_of(deep)}, but color_type={self.color_type!r} reads pictures of 8 bits, no "
                "arrays: if the others have 8 bits, convert it to them; if all are so, they want "
                "LoadImageFromFile(color_type='unchanged') and in_channels, mean and std of theirs, see "
                "docs/custom_data.md"
            )
        backend = self.imdecode_backend
        if backend == "pillow":
            with Image.open(io.BytesIO(content)) as image:
                if image.mode == "LA":  # mmcv lays it on a coloured canvas; OpenCV drops the alpha
                    image.load()  # raises if the file is cut short
                    backend = "cv2"
        img = mmcv.imfrombytes(content, flag=self.color_type, backend=backend)
        if img is None:
            raise UnidentifiedImageError(f"{backend} cannot decode it")
        return img


def _reason(content: bytes, path: str, error: Exception) -> str:
    if not content:
        return "is empty (0 bytes); fetch it again or take it out of the annotation file"
    if isinstance(error, ImportError) or "imagecodecs" in str(error):
        return f"cannot be decoded: {error}; install that package"
    if path.endswith(".npz"):
        return "is an archive of arrays; save the array as .npy, (h, w) or (h, w, channels)"
    if isinstance(error, UnidentifiedImageError):
        return "is not an image, or is cut short in its first bytes; fetch it again"
    return f"cannot be decoded, it is cut short or damaged ({first_line(error)}); fetch it again"


def _check_size(results: dict, shape: tuple[int, ...]) -> None:
    stated, decoded = (results.get("height"), results.get("width")), shape[:2]
    if None in stated or stated == decoded:
        return
    hint = "its boxes would be wrong; correct the annotation file or the image"
    if stated == decoded[::-1]:
        hint = (
            "it may carry an EXIF orientation; if the boxes belong to the stored orientation, set "
            "color_type='color_ignore_orientation' in LoadImageFromFile"
        )
    elif stated == shape[1:]:
        hint = "its channels come first; save array.transpose(1, 2, 0)"
    raise InputError(
        f"image {results['img_path']} is {decoded[1]}x{decoded[0]} (width x height), the annotation "
        f"file says {stated[1]}x{stated[0]}: {hint}"
    )


def image_loader(dataset: BaseDataset) -> _LoadImageFromFile:
    """What loads the images in the pipeline of a data set; `LoadImageFromFile` where it has none."""
    steps = dataset.pipeline.transforms
    return next((step for step in steps if isinstance(step, _LoadImageFromFile)), LoadImageFromFile())


def missing_files(paths: Iterable[str]) -> list[str]:
    """The paths that do not exist, found with one listing a folder; addresses (``s3://``) are passed over."""
    by_folder = defaultdict(list)
    for path in paths:
        if "://" not in path:
            by_folder[os.path.dirname(path)].append(path)
    missing = []
    for folder, wanted in by_folder.items():
        there: set[str] = set()
        with suppress(OSError):
            there |= set(os.listdir(folder or "."))
        # A folder that ignores case, or spells accents in another way, may have it all the same.
        missing += [
            path for path in wanted if os.path.basename(path) not in there and not os.path.exists(path)
        ]
    return missing
