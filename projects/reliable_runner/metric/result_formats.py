"""Detections as other tools read them, written out of `CocoResults`."""

import csv
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from ..errors import InputError
from .coco_results import CocoResults


def write_yolo(results: CocoResults, folder: Path) -> None:
    """``labels/NAME.txt`` an image: label, centre and size in fractions of it, score; ``classes.txt``."""
    _write(folder / "classes.txt", "".join(f"{name}\n" for name in results.names.values()))
    labels = {category_id: label for label, category_id in enumerate(results.names)}
    for name, image, found in _by_image(results):
        w, h, lines = image["width"], image["height"], []
        for ann in found:
            x, y, box_w, box_h = ann["bbox"]
            numbers = (x + box_w / 2) / w, (y + box_h / 2) / h, box_w / w, box_h / h, ann["score"]
            lines.append(f"{labels[ann['category_id']]} {' '.join(f'{n:.6f}' for n in numbers)}\n")
        _write(folder / "labels" / f"{name}.txt", "".join(lines))


def write_voc(results: CocoResults, folder: Path) -> None:
    """``NAME.xml`` an image: class and corners in pixels, counted from 0, and ``score``."""
    for name, image, found in _by_image(results):
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = image["file_name"]
        size = ElementTree.SubElement(root, "size")
        for key in "width", "height":
            ElementTree.SubElement(size, key).text = str(image[key])
        for ann in found:
            node = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(node, "name").text = results.names[ann["category_id"]]
            ElementTree.SubElement(node, "score").text = f"{ann['score']:.6f}"
            box = ElementTree.SubElement(node, "bndbox")
            x, y, w, h = ann["bbox"]
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True):
                ElementTree.SubElement(box, key).text = f"{value:.3f}"
        ElementTree.indent(root)
        _write(folder / f"{name}.xml", ElementTree.tostring(root, encoding="unicode"))


def write_csv(results: CocoResults, folder: Path) -> None:
    """``predictions.csv``: a line a detection, corners in pixels; frames of a video are numbered from 0."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "predictions.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "frame_id", "class", "score", "x1", "y1", "x2", "y2"])
        for _, image, found in _by_image(results):
            for ann in found:
                x, y, w, h = ann["bbox"]
                place = image["file_name"], image.get("frame_id", "")
                table.writerow([*place, results.names[ann["category_id"]], ann["score"], x, y, x + w, y + h])


FORMATS: dict[str, Callable[[CocoResults, Path], None]] = dict(
    coco=lambda results, folder: results.save(folder / "predictions.json"),
    yolo=write_yolo,
    voc=write_voc,
    csv=write_csv,
)


def save_as(results: CocoResults, kind: str, folder: Path) -> None:
    """Write detections in one of `FORMATS` into a folder, which is made; `InputError` if that fails."""
    try:
        FORMATS[kind](results, folder)
    except OSError as error:
        raise InputError(f"{folder}: can't be written ({error.strerror})") from error


def _by_image(results: CocoResults) -> Iterator[tuple[str, dict, list[dict]]]:
    """The name of each image, with its frame's number; the image; its annotations.

    The name has no suffix, unless another image would have it too.
    """
    found: dict[int, list[dict]] = {}
    for ann in results.annotations:
        found.setdefault(ann["image_id"], []).append(ann)
    stems = Counter(Path(name).with_suffix("") for name in {image["file_name"] for image in results.images})
    for image in results.images:
        path = Path(image["file_name"])
        name = str(path if stems[path.with_suffix("")] > 1 else path.with_suffix("")).lstrip("/")
        if "frame_id" in image:
            name += f"_{image['frame_id']:06d}"
        yield name, image, found.get(image["id"], [])


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
