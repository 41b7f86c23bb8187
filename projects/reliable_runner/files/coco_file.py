"""A COCO annotation file, checked while it is read."""

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmdet.datasets.api_wrappers import COCO
from mmengine.logging import print_log

from ..errors import InputError
from .coco_completion import complete, name_categories

_FORMAT = "The format: https://cocodataset.org/#format-data (object detection)."
_SHOWN = 5  # how many entries a message names before it says "and N more"
_ID = (int, str)
_NUMBER = (int, float)
_MOST = 2**63  # integers of numpy and torch are below
FIELDS = {
    "images": {"id": _ID, "file_name": str, "width": _NUMBER, "height": _NUMBER},
    "annotations": {
        "id": _ID,
        "image_id": _ID,
        "category_id": _ID,
        "bbox": list,
        "area": _NUMBER,
        "iscrowd": int,
    },
    "categories": {"id": _ID, "name": str},
}
_SIZE = {"width", "height"}
_told: set[tuple[str, str]] = set()


class CocoFile(COCO):
    """The COCO API over a file whose every entry was completed and checked before it was indexed.

    Args:
        path: The annotation file (JSON).
        folder: Of the images; None if their sizes are not needed.
        classes: Names of the categories where the file has none.

    Raises:
        InputError: The file is missing, is not JSON or is not COCO.
    """

    def __init__(self, path: str, folder: str | None = None, classes: Sequence[str] = ()) -> None:
        self.path, self.folder, self.classes = path, folder, classes
        with _named_errors(path):
            super().__init__(path)

    def createIndex(self) -> None:
        """Complete and check every entry, then build the index (the parent's constructor calls this)."""
        if "images" not in self.dataset:
            found = ", ".join(self.dataset) or "nothing"
            fault = f"no images (it holds {found})"
            raise InputError(f"annotation file {self.path} is not COCO: {fault}. {_FORMAT}")
        tell_completion(self.path, complete(self.dataset, self.folder))
        for section in FIELDS:
            faults = self._faults(section, self.dataset[section])
            if faults:
                raise InputError(f"annotation file {self.path} is not COCO: {shorten(faults)}. {_FORMAT}")
        self.name_categories(self.classes)

    def name_categories(self, classes: Sequence[str]) -> None:
        """Give names to the categories where the file has none, see `name_categories`; build the index."""
        if classes and not self.dataset["categories"]:
            try:
                name_categories(self.dataset, classes)
            except InputError as error:
                raise InputError(f"annotation file {self.path}: {error}") from error
        super().createIndex()

    def getCatIds(self, catNms: object = [], supNms: object = [], catIds: object = []) -> list:
        """As in pycocotools, but in the order of the names: labels follow it."""
        found = super().getCatIds(catNms, supNms, catIds)
        names = [] if isinstance(catNms, str) else list(catNms)
        return sorted(found, key=lambda id_: names.index(self.cats[id_]["name"])) if names else found

    def loadCats(self, ids: object = []) -> list[dict]:
        """As in pycocotools, which takes a string for a list of ids."""
        return super().loadCats([ids] if isinstance(ids, str) else ids)

    def _faults(self, section: str, entries: object) -> list[str]:
        if not isinstance(entries, list):
            return [f"{section!r} is no list but {type(entries).__name__}"]
        fields, faults, seen = fields_of(section, self.folder), [], set()
        for index, entry in enumerate(entries):
            found = [text for _, text in entry_faults(entry, fields)]
            if not found:
                found = ["repeats an id"] * (entry["id"] in seen)
                seen.add(entry["id"])
            faults += [f"{entry_name(section, index, entry)} {text}" for text in found]
        if len(set(map(type, seen))) > 1:
            faults.append(f"{section} have numbers and strings as ids")
        return faults


def shorten(items: list[str]) -> str:
    """Join the first few of ``items`` and say how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def read_json(path: str) -> dict:
    """Parse an annotation file, whatever it holds.

    Raises:
        InputError: The file is missing or is not a JSON object.
    """
    with _named_errors(path), open(path) as file:
        content = json.load(file)
        assert isinstance(content, dict)
    return content


@contextmanager
def _named_errors(path: str) -> Iterator[None]:
    """Turn what reading ``path`` raises into an `InputError`."""
    try:
        yield
    except InputError:
        raise
    except (OSError, ValueError, RecursionError, AssertionError) as error:
        raise InputError(f"annotation file {path} {_reason(path, error)}") from error


def _reason(path: str, error: Exception) -> str:
    match error:
        case FileNotFoundError():
            return f"does not exist; {_nearby(path)}"
        case json.JSONDecodeError(msg=fault, lineno=line, colno=column):
            return f"is not JSON: {fault} at line {line}, column {column}; is it complete?"
        case UnicodeDecodeError():
            return "is no text; if it is compressed, unpack it first"
        case RecursionError():
            return f"is not COCO: its lists are nested too deeply. {_FORMAT}"
        case AssertionError():  # of pycocotools and of `read_json`
            return f"is not COCO: it must hold one JSON object with {', '.join(FIELDS)}. {_FORMAT}"
    return f"cannot be read: {error}"  # a number of thousands of digits is a ValueError


def tell_completion(path: str, filled: list[str]) -> None:
    """Log once in this process what was filled in."""
    for line in filled:
        if (path, line) not in _told:
            print_log(f"{path}: filled in: {line}", logger="current", level=logging.WARNING)
            _told.add((path, line))


def fields_of(section: str, folder: str | None) -> dict:
    """What an entry must have: types by key; ``folder`` as in `CocoFile`."""
    return {key: types for key, types in FIELDS[section].items() if folder is not None or key not in _SIZE}


def entry_faults(entry: object, fields: dict) -> Iterator[tuple[str, str]]:
    """Compare an entry with `fields_of` its section: each wrong key, "" if it is no object, and a message."""
    if not isinstance(entry, dict):
        yield "", f"is no object but {entry!r:.80}"
        return
    for key, types in fields.items():
        value = entry.get(key)
        if key not in entry:
            yield key, f"has no {key!r}"
        elif not _is(value, types):
            yield key, f"has {key} {value!r:.80}"
        elif key == "bbox" and not (len(value) == 4 and all(_is(side, _NUMBER) for side in value)):
            yield key, f"has bbox {value!r:.80} instead of [x, y, width, height]"


def _is(value: object, types: type | tuple[type, ...]) -> bool:
    """Whether ``value`` is of ``types`` and what follows can work with it: no huge number, no broken text."""
    if isinstance(value, str):
        broken = "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)
        return not broken and isinstance(value, types)
    huge = isinstance(value, int) and abs(value) >= _MOST
    return not huge and not isinstance(value, bool) and isinstance(value, types)


def entry_name(section: str, index: int, entry: object) -> str:
    """Where an entry is in its file."""
    key = entry.get("id") if isinstance(entry, dict) else None
    return f"{section}[{index}] (id {key!s:.40})"


def _nearby(path: str) -> str:
    folder = Path(path).absolute().parent
    if folder.is_dir():
        names = sorted(file.name for file in folder.glob("*.json"))
        return f"{folder} holds {shorten(names) if names else 'no .json file'}"
    while not folder.parent.is_dir():
        folder = folder.parent
    return f"there is no folder {folder}"
