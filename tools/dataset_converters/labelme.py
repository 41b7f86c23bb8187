"""LabelMe: a JSON file an image, shapes by their points in pixels."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath

from projects.reliable_runner.errors import InputError
from tools.dataset_converters.export import Export, Picture, find_files, find_image, size_of, split_of
from tools.dataset_converters.outline import around, number, polygon


def read(folder: Path) -> Export:
    """Read JSON files anywhere below ``folder``; images stand where these say, or beside them.

    Folders named like splits say what they are for. Shapes other than rectangles and polygons are left out
    with a warning.
    """
    paths = find_files(folder, "**/*.json")
    return Export(None, len(paths), (_picture(path, folder) for path in paths))


def _picture(path: Path, folder: Path) -> Picture:
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: it is not JSON, or cut short ({error})") from error
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise InputError(f"{path}: it is not LabelMe's: it has no list 'shapes'")
    shapes, name = content["shapes"], content.get("imagePath")
    name = PureWindowsPath(name if isinstance(name, str) else "")
    image = find_image(name.name, (path.parent / name.parent.as_posix(), path.parent), path, path.stem)
    size = size_of(image, path, (content.get("imageWidth"), content.get("imageHeight")))
    return Picture(
        image, size, list(_objects(shapes, path)), path, split_of(path.relative_to(folder).parts[:-1])
    )


def _objects(shapes: list, path: Path) -> Iterator[dict]:
    for index, shape in enumerate(shapes):
        where = f"{path}: shapes[{index}]"
        label = shape.get("label") if isinstance(shape, dict) else None
        if not isinstance(label, str) or not label.strip():
            raise InputError(f"{where} has no label")
        kind, points = shape.get("shape_type") or "polygon", shape.get("points")
        if kind not in ("polygon", "rectangle"):
            warnings.warn(f"{where} is a {kind!r:.80} and left out", stacklevel=2)
            continue
        if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
            raise InputError(f"{where} has no points [x, y]")
        points = [[number(side, f"{where}: a point") for side in point] for point in points]
        if kind == "rectangle" and len(points) < 2:
            raise InputError(f"{where}: a rectangle has 2 corners, not {len(points)}")
        outline = polygon(points, where) if kind == "polygon" else around(points)
        yield dict(name=label.strip(), **outline)
