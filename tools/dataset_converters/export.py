"""What a label tool exports: classes, and images with their objects."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from mmdet.utils.misc import IMG_EXTENSIONS

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_completion import image_size
from projects.reliable_runner.files.coco_file import shorten
from tools.dataset_converters.outline import number

SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}  # by folder


class Picture(NamedTuple):
    """An image with its objects."""

    path: Path
    size: tuple[int, int]  # width and height, as the image is shown
    # Annotations as COCO has them, boxes in pixels, with the class as "name", without ids.
    objects: list[dict]
    source: Path  # the file that lists the objects
    split: str | None  # "train", "val" or "test"; None if the export does not say


class Export(NamedTuple):
    """A folder whose annotations are found."""

    classes: list[str] | None  # names in their order; None if the format lists none
    num_images: int
    pictures: Iterator[Picture]  # read one by one; `InputError` at the first that is at fault


def find_files(folder: Path, *patterns: str) -> list[Path]:
    """What is in ``folder``, sorted, but for hidden files and those that macOS adds to archives."""
    files = sorted(path for pattern in patterns for path in folder.glob(pattern))
    return [x for x in files if not any(y.startswith((".", "__MACOSX")) for y in x.relative_to(folder).parts)]


def split_of(words: Iterable[str]) -> str | None:
    """The split that the first of ``words`` that names one says."""
    return next((SPLITS[word.lower()] for word in words if word.lower() in SPLITS), None)


def unique(names: Iterable[str], source: Path) -> list[str]:
    """The names of classes that ``source`` lists; `InputError` if one comes twice."""
    names = list(names)
    if doubled := [name for name, count in Counter(names).items() if count > 1]:
        raise InputError(f"{source}: several classes are named {shorten(doubled)}; join or rename them")
    return names


def find_image(name: str, folders: Sequence[Path], source: Path, stem: str = "") -> Path:
    """The image that ``source`` names, or else one called ``stem``; `InputError` if no folder has it."""
    endings = [ending for lower in IMG_EXTENSIONS for ending in (lower, lower.upper())] if stem else []
    for candidate in [name, *(stem + ending for ending in endings)]:
        for folder in folders:
            if (folder / candidate).is_file():
                return folder / candidate
    places = shorten([str(folder) for folder in folders])
    raise InputError(f"{source}: its image {name or stem!r} is missing; looked for in {places}")


def size_of(path: Path, source: Path, stated: Sequence[object] = ()) -> tuple[int, int]:
    """Width and height of an image as it is shown, its EXIF orientation honoured.

    `InputError` if it can't be read, or its ``source`` has ``stated`` another width and height than 0.
    """
    if not (size := image_size(path)):
        raise InputError(f"image {path} ({source}) can't be read: it is empty, cut short or no image")
    width, height = (number(side or 0, f"{source}: a side of its image") for side in stated or size)
    if width and height and (width, height) != size:
        raise InputError(
            f"{source}: it states {width:g}x{height:g} (width x height), but as it is shown {path} is "
            f"{size[0]}x{size[1]}: the boxes would be wrong. If they are for the pixels as they are stored, "
            "remove the image's EXIF orientation"
        )
    return size
