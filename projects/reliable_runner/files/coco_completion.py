"""What label tools leave out of COCO files, where it follows from the rest."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError
from pycocotools import mask as rle

from ..data.stored_values import read_stored
from ..errors import InputError

TURNED = 5  # from this EXIF orientation on width and height change places
_HOW = {
    "id": "numbered in their order",
    "bbox": "the box of the segmentation",
    "area": "that of the segmentation, else of the box",
    "iscrowd": "0",
    "width and height": "from the image files",
}


def complete(content: dict, folder: str | None = None) -> list[str]:
    """Fill in what is missing in a parsed file; return what that was, with numbers and where it is from.

    Sizes are read from the images in ``folder``; None leaves them out.
    """
    for section in ("annotations", "categories"):
        content.setdefault(section, [])
    filled: Counter[tuple[str, str]] = Counter()
    for image in _entries(content, "images"):
        if folder is None or None not in (image.get("width"), image.get("height")):
            continue
        if size := image_size(os.path.join(folder, str(image.get("file_name")))):
            image["width"], image["height"] = size
            filled["width and height", "images"] += 1
    annotations = list(_entries(content, "annotations"))
    if annotations and not any(annotation.get("id") is not None for annotation in annotations):
        for number, annotation in enumerate(annotations, 1):
            annotation["id"] = number
        filled["id", "annotations"] = len(annotations)
    for annotation in annotations:
        if isinstance(annotation.get("iscrowd"), bool):
            annotation["iscrowd"] = int(annotation["iscrowd"])
        for key, value in _missing(annotation):
            annotation[key] = value
            filled[key, "annotations"] += 1
    return [f"{key} of {number} {what} ({_HOW[key]})" for (key, what), number in filled.items()]


def name_categories(content: dict, classes: Sequence[str]) -> None:
    """Number ``classes`` as the annotations do, from 1 or from 0 on, where the file names no category.

    `InputError` if the annotations have other numbers.
    """
    used = {annotation["category_id"] for annotation in content["annotations"]}
    first = 0 if 0 in used else 1
    ids = range(first, first + len(classes))
    if not used <= set(ids):
        raise InputError(
            f"it names no category, and its annotations' category_id, {sorted(used, key=str)[:10]}, do not "
            f"number the {len(classes)} classes"
        )
    content["categories"] = [dict(id=i, name=name) for i, name in zip(ids, classes, strict=True)]


def _entries(content: dict, section: str) -> Iterator[dict]:
    entries = content.get(section)
    return (entry for entry in (entries if isinstance(entries, list) else ()) if isinstance(entry, dict))


def _missing(annotation: dict) -> Iterator[tuple[str, object]]:
    segmentation, box, area = (annotation.get(key) for key in ("segmentation", "bbox", "area"))
    outline = size = None
    if segmentation and None in (box, area):
        with suppress(TypeError, ValueError, KeyError, IndexError):  # it is none
            outline, size = _extent(segmentation)
    if box is None and outline:
        box = outline
        yield "bbox", box
    if area is None and size is None and _is_box(box):
        size = float(box[2] * box[3])
    if area is None and size is not None:
        yield "area", size
    if annotation.get("iscrowd") is None:
        yield "iscrowd", 0


def _is_box(box: object) -> bool:
    return isinstance(box, list) and len(box) == 4 and all(type(side) in (int, float) for side in box)


def _extent(segmentation: list | dict) -> tuple[list[float], float]:
    """Box (x, y, width, height) and area of polygons or of a run-length encoded mask."""
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        counts = segmentation["counts"]
        mask = rle.frPyObjects(segmentation, height, width) if isinstance(counts, list) else segmentation
        return rle.toBbox(mask).tolist(), float(rle.area(mask))
    polygons = [np.array(polygon, np.float32).reshape(-1, 2) for polygon in segmentation]
    points = np.concatenate(polygons)
    return [*points.min(0).tolist(), *np.ptp(points, 0).tolist()], sum(map(cv2.contourArea, polygons))


def orientation(image: Image.Image) -> int:
    """EXIF's number of how an image is turned or mirrored; 1 is upright."""
    return image.getexif().get(0x0112, 1)


def image_size(path: str | Path) -> tuple[int, int] | None:
    """Width and height as the image is shown; None if it can't be read."""
    try:
        with suppress(UnidentifiedImageError), Image.open(path) as image:
            return image.size[::-1] if orientation(image) >= TURNED else image.size
        return read_stored(Path(path).read_bytes()).shape[1::-1]
    except Exception:  # decoders raise all kinds
        return None
