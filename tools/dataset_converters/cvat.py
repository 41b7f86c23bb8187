"""CVAT's own XML, "CVAT for images 1.1": one file for all images."""

import warnings
from collections.abc import Iterator
from math import cos, radians, sin
from pathlib import Path
from xml.etree.ElementTree import Element

from projects.reliable_runner.errors import InputError
from tools.dataset_converters.export import Export, Picture, find_files, find_image, size_of, split_of, unique
from tools.dataset_converters.outline import number, polygon, rectangle
from tools.dataset_converters.voc import read_xml

_CORNERS = "xtl", "ytl", "xbr", "ybr"


def read(folder: Path) -> Export:
    """Read the XML files in ``folder``; images stand in ``images``, in a folder of their subset, or beside.

    Boxes that are turned become polygons. Shapes other than boxes and polygons are left out with a warning.
    """
    roots = {path: read_xml(path, "annotations") for path in find_files(folder, "*.xml")}
    classes: dict[str, None] = {}
    for path, root in roots.items():
        if root.find("track") is not None:
            raise InputError(f"{path}: it is CVAT's format for video; export as 'CVAT for images 1.1'")
        names = (name.text or "" for name in root.findall("meta//labels/label/name"))
        classes |= dict.fromkeys(unique(names, path))
    entries = [(path, node) for path, root in roots.items() for node in root.findall("image")]
    return Export(list(classes) or None, len(entries), (_picture(*entry) for entry in entries))


def _picture(path: Path, node: Element) -> Picture:
    name, subset = node.get("name", ""), node.get("subset", "")
    if not name:
        raise InputError(f"{path}: image {node.get('id')} has no name")
    images = path.parent / "images"
    image = find_image(name, (images / subset, images, path.parent), path, stem=name)
    size = size_of(image, path, (node.get("width"), node.get("height")))
    return Picture(image, size, list(_objects(node, f"{path}: image {name}")), path, split_of([subset]))


def _objects(image: Element, where: str) -> Iterator[dict]:
    for index, node in enumerate(image, 1):
        place = f"{where}: {node.tag} (entry {index})"
        if node.tag == "box":
            corners = [number(node.get(key), f"{place}: {key}") for key in _CORNERS]
            angle = number(node.get("rotation", 0), f"{place}: rotation")
            outline = polygon(_turned(corners, angle), place) if angle else rectangle(*corners)
        elif node.tag == "polygon":
            pairs = [pair.split(",") for pair in node.get("points", "").split(";")]
            if any(len(pair) != 2 for pair in pairs):
                raise InputError(f"{place}: its points are not of the form x,y;x,y;x,y")
            points = [[number(side, f"{place}: a point") for side in pair] for pair in pairs]
            outline = polygon(points, place)
        else:
            warnings.warn(f"{place} is neither box nor polygon and left out", stacklevel=2)
            continue
        yield dict(name=node.get("label", ""), **outline)


def _turned(corners: list[float], degrees: float) -> list[tuple[float, float]]:
    """The corners of a box, (4, 2), turned clockwise about its middle."""
    x1, y1, x2, y2 = corners
    x, y, w, h = (x1 + x2) / 2, (y1 + y2) / 2, (x2 - x1) / 2, (y2 - y1) / 2
    c, s = cos(radians(degrees)), sin(radians(degrees))
    return [(x + c * u - s * v, y + s * u + c * v) for u, v in ((-w, -h), (w, -h), (w, h), (-w, h))]
