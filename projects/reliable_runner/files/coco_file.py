"""A COCO annotation file, checked while it is read."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from mmdet.datasets.api_wrappers import COCO

from ..errors import InputError
from ..log import warn
from .coco_completion import complete, name_categories

_FORMAT = "The format: https://cocodataset.org/#format-data (object detection)."
_SHOWN = 5  # how many entries a message names before it says "and N more"
_ID = (int, str)
_NUMBER = (int, float)
_MOST = 2**63  # integers of numpy and torch are below
FIELDS = {
    "images": dict(id=_ID, file_name=str, width=_NUMBER, height=_NUMBER),
    "annotations": dict(id=_ID, image_id=_ID, category_id=_ID, bbox=list, area=_NUMBER, iscrowd=int),
    "categories": dict(id=_ID, name=str),
}
_SIZE = {"width", "height"}
_told: set[tuple[str, str]] = set()


class CocoFile(COCO):
    """The COCO API over a file whose every entry was completed and checked before it was indexed.

    ``folder`` is that of the images, None if their sizes are not needed; ``classes`` name the categories
    where the file has none. `InputError` if the file is missing, is not JSON or is not COCO.
    """

    def __init__(self, path: str, folder: str | None = None, classes: Sequence[str] = ()) -> None:
        self.path, self.folder, self.classes = path, folder, classes
        with _named_errors(path):
            super().__init__(path)

    def createIndex(self) -> None:
        """Complete and check every entry, then build the index; the parent's constructor calls this."""
        faults = [f"no images (it holds {', '.join(self.dataset) or 'nothing'})"]
        if "images" in self.dataset:
            for line in complete(self.dataset, self.folder):
                if (self.path, line) not in _told:  # in this process
                    warn(f"{self.path}: filled in: {line}")
                    _told.add((self.path, line))
            checks = (self._faults(section, self.dataset[section]) for section in FIELDS)
            faults = next(filter(None, checks), None)
        if faults:
            raise InputError(f"annotation file {self.path} is not COCO: {shorten(faults)}. {_FORMAT}")
        self.name_categories(self.classes)

    def number_annotations(self) -> None:
        """Number them from 1: to pycocotools a match with number 0 is none, and with a string an error."""
        for number, annotation in enumerate(self.dataset["annotations"], 1):
            annotation["id"] = number
        super().createIndex()

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
        faults, seen = [], set()
        for index, entry in enumerate(entries):
            found = [text for _, text in entry_faults(section, index, entry, self.folder)]
            if not found:
                found = [f"{section}[{index}] (id {entry['id']}) repeats an id"] * (entry["id"] in seen)
                seen.add(entry["id"])
            faults += found
        if len(set(map(type, seen))) > 1:
            faults.append(f"{section} have numbers and strings as ids")
        return faults


def shorten(items: list[str]) -> str:
    """Join the first few of ``items`` and say how many more there are."""
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more


def read_json(path: str) -> dict:
    """Parse an annotation file; `InputError` if it is missing or is not a JSON object."""
    with _named_errors(path), open(path, encoding="utf-8") as file:
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


def entry_faults(section: str, index: int, entry: object, folder: str | None) -> Iterator[tuple[str, str]]:
    """Each wrong key of an entry, "" if it is no object, and a message; ``folder`` as in `CocoFile`."""
    if not isinstance(entry, dict):
        yield "", f"{section}[{index}] is no object but {entry!r:.80}"
        return
    name = f"{section}[{index}] (id {entry.get('id')!s:.40})"
    for key, types in FIELDS[section].items():
        value = entry.get(key)
        if folder is None and key in _SIZE:
            continue
        if key not in entry:
            yield key, f"{name} has no {key!r}"
        elif not _is(value, types):
            yield key, f"{name} has {key} {value!r:.80}"
        elif key == "bbox" and not (len(value) == 4 and all(_is(side, _NUMBER) for side in value)):
            yield key, f"{name} has bbox {value!r:.80} instead of [x, y, width, height]"


def _is(value: object, types: type | tuple[type, ...]) -> bool:
    """Whether ``value`` is of ``types`` and what follows can work with it: no huge number, no broken text."""
    if isinstance(value, str):
        broken = "\0" in value or any("\ud800" <= sign <= "\udfff" for sign in value)
        return not broken and isinstance(value, types)
    huge = isinstance(value, int) and abs(value) >= _MOST
    return not huge and not isinstance(value, bool) and isinstance(value, types)


def _nearby(path: str) -> str:
    folders = Path(path).absolute().parents
    if missing := [folder for folder in folders if not folder.is_dir()]:
        return f"there is no folder {missing[-1]}"
    names = sorted(file.name for file in folders[0].glob("*.json"))
    return f"{folders[0]} holds {shorten(names) or 'no .json file'}"
