"""YOLO's text files: a line an object, its class by number, its box or polygon in fractions of the image."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import yaml
from mmdet.utils.misc import IMG_EXTENSIONS

from projects.reliable_runner.errors import InputError
from tools.dataset_converters.export import SPLITS, Export, Picture, find_files, size_of, unique
from tools.dataset_converters.outline import number, polygon, rectangle

_LISTS = "classes.txt", "labels/classes.txt", "obj.names"
_OUTSIDE = 0.5  # of the image: what reaches farther is no fraction


def read(folder: Path) -> Export:
    """Read the folders that ``data.yaml`` names, or else the usual ones.

    Usual are ``images/train``, ``train/images`` and ``train``; without splits ``images`` and ``folder``
    itself. Labels stand in ``labels`` in the place of ``images``, or beside the images; an image without any
    is background.
    """
    file, settings = _read_yaml(folder)
    classes = _numbered(settings["names"], file) if file else _listed(folder)
    if "kpt_shape" in settings:
        raise InputError(f"{file}: it is of poses (kpt_shape); boxes and polygons alone can be read")
    places = list(_named_places(folder, file, settings)) or list(_usual_places(folder))
    images = [(path, split) for place, split in places for path in _images(place)]
    _check_pairs([image for image, _ in images])
    return Export(classes, len(images), (_picture(image, split, classes) for image, split in images))


def _read_yaml(folder: Path) -> tuple[Path | None, dict]:
    """The first YAML file with names, and what it holds."""
    for path in find_files(folder, "*.yaml", "*.yml"):
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            mark = getattr(error, "problem_mark", None)
            where = f"{path}, line {mark.line + 1}" if mark else path
            raise InputError(f"{where}: it is not YAML ({getattr(error, 'problem', error)})") from error
        if isinstance(content, dict) and "names" in content:
            return path, content
    return None, {}


def _numbered(names: object, file: Path) -> list[str]:
    if isinstance(names, dict) and names.keys() == set(range(len(names))):
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise InputError(f"{file}: its names are neither a list nor numbered 0, 1, 2, ...")
    return unique(map(str, names), file)


def _listed(folder: Path) -> list[str]:
    for file in map(folder.joinpath, _LISTS):
        if file.is_file():
            lines = file.read_text(encoding="utf-8-sig", errors="replace").rstrip().splitlines()
            return unique(map(str.strip, lines), file)
    raise InputError(
        f"{folder}: no class names: there is no data.yaml with names, nor {' nor '.join(_LISTS)}"
    )


def _named_places(folder: Path, file: Path | None, settings: dict) -> Iterator[tuple[Path, str]]:
    """The folders, or lists of images, that the settings name; a test split may be missing."""
    root = folder / str(settings.get("path") or "")
    for key, split in SPLITS.items():
        values = settings.get(key) or []
        for value in map(str, values if isinstance(values, list) else [values]):
            # Exported paths are often those of another machine, or of one folder higher.
            tries = root / value, folder / value, folder / re.sub(r"^(\.\./)+", "", value)
            if place := next(filter(Path.exists, tries), None):
                yield place, split
            elif split == "test":
                warnings.warn(f"{file}: {key} is {value}, which is not there", stacklevel=2)
            else:
                raise InputError(f"{file}: {key} is {value}, which is not in {root}")


def _images(place: Path) -> Iterator[Path]:
    """Those below a folder, or those of a list: paths from its folder, often with others before."""
    if place.is_dir():
        yield from (path for path in find_files(place, "**/*") if path.suffix.lower() in IMG_EXTENSIONS)
        return
    for line in filter(str.strip, place.read_text(encoding="utf-8-sig", errors="replace").splitlines()):
        parts = Path(line.strip()).parts
        tries = (place.parent.joinpath(*parts[start:]) for start in range(len(parts)))
        if not (image := next(filter(Path.is_file, tries), None)):
            raise InputError(f"{place}: its image {line.strip()} is missing")
        yield image


def _usual_places(folder: Path) -> Iterator[tuple[Path, str | None]]:
    names = [(f"images/{key}", f"{key}/images", key) for key in SPLITS]
    found = [next(filter(Path.is_dir, map(folder.joinpath, tries)), None) for tries in names]
    yield from ((place, split) for place, split in zip(found, SPLITS.values(), strict=True) if place)
    if not any(found):
        yield folder / "images" if (folder / "images").is_dir() else folder, None


def _check_pairs(images: list[Path]) -> None:
    """Raise `InputError` if two images share their labels, or labels have no image."""
    owners: dict[Path, Path] = {}
    for image in images:
        if (other := owners.setdefault(_label_file(image), image)) != image:
            raise InputError(f"{_label_file(image)}: it belongs to two images, {other} and {image}")
    for parent in sorted({file.parent for file in owners}):
        for file in sorted({*parent.glob("*.txt")} - owners.keys()):
            if re.match(r"\d+( [\d.e+-]+){4}", file.read_text(errors="replace")):  # no list, no readme
                raise InputError(f"{file}: its image is missing")


def _label_file(image: Path) -> Path:
    """Where the objects of an image stand; the file need not exist."""
    before, found, after = image.as_posix().rpartition("/images/")
    path = Path(f"{before}/labels/{after}")
    return (path if found and path.parent.is_dir() else image).with_suffix(".txt")


def _picture(image: Path, split: str | None, classes: list[str]) -> Picture:
    path = _label_file(image)
    size = size_of(image, path)
    lines = path.read_text(errors="replace").splitlines() if path.is_file() else []
    objects = [
        _object(line.split(), f"{path}, line {index}", classes, size)
        for index, line in enumerate(lines, 1)
        if line.strip()
    ]
    return Picture(image, size, objects, path, split)


def _object(words: list[str], where: str, classes: list[str], size: tuple[int, int]) -> dict:
    label, *sides = [number(word, f"{where}: a value") for word in words]
    if label not in range(len(classes)):
        raise InputError(f"{where}: class {words[0]}, but there are {len(classes)}, numbered from 0")
    if len(sides) < 4 or len(sides) % 2:
        raise InputError(
            f"{where}: {len(words)} values instead of class cx cy w h or class x1 y1 x2 y2 x3 y3 ..."
        )
    if min(sides) < -_OUTSIDE or max(sides) > 1 + _OUTSIDE:
        raise InputError(f"{where}: its values are no fractions of the image, from 0 to 1; are they pixels?")
    xs, ys = [x * size[0] for x in sides[::2]], [y * size[1] for y in sides[1::2]]
    if len(sides) > 4:
        return dict(name=classes[int(label)], **polygon(list(zip(xs, ys, strict=True)), where))
    (x, w), (y, h) = xs, ys
    return dict(name=classes[int(label)], **rectangle(x - w / 2, y - h / 2, x + w / 2, y + h / 2))
