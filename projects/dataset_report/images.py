"""Image files: there, readable, of the size that the annotation file states, and of one split only."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from tqdm import tqdm

from .finding import Finding

_ORIENTATION = 0x0112  # EXIF's tag; 1 is upright, from 5 on width and height change places


def missing_files(paths: Iterable[str]) -> list[str]:
    """The paths that do not exist, found with one listing a folder; addresses (``s3://``) are passed over."""
    by_folder = defaultdict(list)
    for path in paths:
        if "://" not in path:
            by_folder[os.path.dirname(path)].append(path)
    missing = []
    for folder, wanted in by_folder.items():
        try:
            there = set(os.listdir(folder or "."))
        except OSError:
            there = set()
        # A folder that ignores case, or spells accents in another way, may have it all the same.
        missing += [
            path for path in wanted if os.path.basename(path) not in there and not os.path.exists(path)
        ]
    return missing


class Opened(NamedTuple):
    """What came of opening an image."""

    size: tuple[int, int] | None  # width, height as the training gets it; None if it cannot be read
    fault: str = ""
    orientation: int = 1  # of EXIF


def open_image(path: str, load: Callable[[dict], dict]) -> Opened:
    """Open an image as the training does.

    Args:
        path: of the image.
        load: the pipeline's ``LoadImageFromFile``.
    """
    try:
        height, width = load(dict(img_path=path))["img"].shape[:2]
        with Image.open(path) as image:
            orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, cv2.error, ...
        return Opened(None, str(error))
    return Opened((width, height), orientation=orientation)


def open_images(paths: Sequence[str], load: Callable[[dict], dict]) -> list[Opened]:
    """`open_image` of each path, in a pool of threads, with a bar of progress."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        opened = pool.map(lambda path: open_image(path, load), paths)
        return list(tqdm(opened, total=len(paths), unit="image", desc="opening images"))


def check_files(images: Sequence[dict], missing: list[str]) -> list[Finding]:
    """Files that are ``missing`` (paths, see `missing_files`), or listed twice."""
    counts = Counter(os.path.normpath(image["file_name"]) for image in images)
    repeated = [name for name, count in counts.items() if count > 1]
    findings = []
    if missing:
        remedy = "Check data_root, data_prefix and file_name in the annotation file."
        findings.append(Finding("image_missing", "missing image files", missing, remedy, True))
    if repeated:
        message = "image files that are listed more than once"
        remedy = "The objects of one entry are background in the other; join the entries."
        findings.append(Finding("image_repeated", message, repeated, remedy))
    return findings


def check_opened(images: Sequence[dict], opened: Sequence[Opened]) -> list[Finding]:
    """Files that cannot be read, or whose size is not the stated one.

    The training's loader turns an image as its EXIF orientation says, unless its ``color_type`` ends with
    ``ignore_orientation``; ``opened`` has the sizes after that. A mirrored, upside-down or square image has
    the same size either way, so nothing here can tell for which its boxes are.

    Args:
        images: entries of the annotation file.
        opened: what came of each.
    """
    unreadable, other_size, turned, ambiguous = [], [], [], []
    for image, found in zip(images, opened, strict=True):
        stated = image["width"], image["height"]
        if found.size is None:
            unreadable.append(found.fault)
        elif found.size != stated:
            name = "{} is {}x{}, stated {}x{}".format(image["file_name"], *found.size, *stated)
            exchanged = found.size == stated[::-1] and found.orientation >= 5
            (turned if exchanged else other_size).append(name)
        elif 2 <= found.orientation <= 4 or (found.orientation >= 5 and len(set(stated)) == 1):
            ambiguous.append(image["file_name"])
    findings = []
    if unreadable:
        findings.append(Finding("image_unreadable", "unreadable images", unreadable, "", True))
    if other_size:
        message = "images of another size (width x height) than the file states"
        remedy = "Their boxes would be wrong: correct the annotation file or the images."
        findings.append(Finding("image_size", message, other_size, remedy, True))
    if turned:
        message = "images that their EXIF orientation turns, width and height changing places"
        remedy = (
            "LoadImageFromFile honours EXIF, unless color_type='color_ignore_orientation'. Let it agree with "
            "the boxes, or correct the stated sizes."
        )
        findings.append(Finding("image_turned", message, turned, remedy, True))
    if ambiguous:
        message = "images with an EXIF orientation that their size does not show"
        remedy = "Are their boxes for the image as it is shown? Look with browse_dataset.py."
        findings.append(Finding("image_orientation", message, ambiguous, remedy))
    return findings


def same_content(paths: Iterable[str]) -> list[list[str]]:
    """Groups of different files with the same bytes; only files of equal length are read."""
    by_length = defaultdict(list)
    for path in dict.fromkeys(map(os.path.realpath, paths)):
        if os.path.isfile(path):
            by_length[os.path.getsize(path)].append(path)
    by_hash = defaultdict(list)
    for length, candidates in by_length.items():
        for path in candidates if len(candidates) > 1 else ():
            by_hash[length, blake2b(Path(path).read_bytes()).digest()].append(path)
    return [group for group in by_hash.values() if len(group) > 1]


def check_splits(paths: dict[str, Sequence[str]], with_content: bool) -> list[Finding]:
    """Images that are in two splits, or twice in one under several names.

    A name alone is no evidence: cameras number their images from 1 in every folder.

    Args:
        paths: of the images, by split.
        with_content: whether the files' bytes are compared too, and not only their places.
    """
    splits = defaultdict(set)
    for split, files in paths.items():
        for path in files:
            splits[os.path.realpath(path)].add(split)
    shared = [path for path, names in splits.items() if len(names) > 1]
    copies = []
    for group in same_content(splits) if with_content else ():
        names = sorted(set().union(*(splits[path] for path in group)))
        if len(names) > 1:
            shared.append(" = ".join(group))
        else:
            copies.append(" = ".join(group))
    findings = []
    if shared:
        message = f"images that are in more than one of {', '.join(paths)}"
        remedy = "The metric does not show how well the model does on new images."
        findings.append(Finding("image_in_two_splits", message, shared, remedy))
    if copies:
        message = "images that are there more than once, under other names"
        findings.append(Finding("image_copied", message, copies))
    return findings
