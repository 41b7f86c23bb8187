"""Image files: readable, of the size that the annotation file states, and of one split only."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from PIL import Image

from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.data.image_arrays import channels_of
from projects.reliable_runner.data.image_loading import missing_files
from projects.reliable_runner.files.coco_completion import TURNED, orientation
from projects.reliable_runner.progress import progress

# By key: message, remedy, is_error.
_FAULTS = {
    "image_missing": ("missing image files", "Check data_root, data_prefix and file_name.", True),
    "image_repeated": (
        "image files that are listed more than once",
        "The objects of one entry are background in the other; join the entries.",
        False,
    ),
    "image_unreadable": ("unreadable images", "", True),
    "image_channels": (
        "images with another number of channels than the model takes",
        "Set color_type, data_preprocessor and in_channels, see docs/custom_data.md.",
        True,
    ),
    "image_size": (
        "images of another size (width x height) than the file states",
        "Correct the annotation file or the images; color_type='color_ignore_orientation' ignores EXIF.",
        True,
    ),
    "image_orientation": (
        "images with an EXIF orientation that their size does not show",
        "Are their boxes for the image as it is shown? Look with browse_dataset.py.",
        False,
    ),
}


def check_images(
    images: Sequence[dict], paths: Sequence[str], load: Callable[[dict], dict] | None, num_channels: int = 3
) -> list[Finding]:
    """Files that are missing, listed twice, unreadable, or not of the stated size or the model's channels.

    ``load`` is the pipeline's ``LoadImageFromFile``; None leaves the files unopened.
    """
    counts = Counter(os.path.normpath(image["file_name"]) for image in images)
    items = defaultdict(list, image_missing=missing_files(paths))
    items["image_repeated"] = [name for name, count in counts.items() if count > 1]
    if load:
        absent = set(items["image_missing"])
        there = [(image, path) for image, path in zip(images, paths, strict=True) if path not in absent]
        with (
            ThreadPoolExecutor(os.cpu_count()) as pool,
            progress(len(there), "image", desc="opening images") as bar,
        ):
            for key, item in pool.map(lambda entry: _open_fault(*entry, load, num_channels), there):
                items[key].append(item)  # "" of the faultless ones
                bar.update()
    return [Finding(key, fault[0], items[key], *fault[1:]) for key, fault in _FAULTS.items() if items[key]]


def _open_fault(image: dict, path: str, load: Callable[[dict], dict], num_channels: int) -> tuple[str, str]:
    """Open an image as the training does; the key and the item of what is wrong with it ("" if nothing is).

    The loader turns an image as its EXIF orientation says, unless its ``color_type`` ends with
    ``ignore_orientation``. A mirrored, upside-down or square image has the same size either way, so nothing
    here can tell for which its boxes are.
    """
    try:
        loaded = load(dict(img_path=path))["img"]
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, cv2.error, ...
        return "image_unreadable", str(error)
    name, stated = image["file_name"], (image["width"], image["height"])
    if loaded.ndim == 3 and stated == loaded.shape[:0:-1]:
        return "image_channels", f"{name} is {loaded.shape}: its channels come first, transpose(1, 2, 0)"
    if channels_of(loaded) != num_channels:
        return "image_channels", f"{name} has {channels_of(loaded)} channels, the model takes {num_channels}"
    height, width = loaded.shape[:2]
    way = 1
    with suppress(OSError), Image.open(path) as opened:  # Pillow does not know what has many channels
        way = orientation(opened)
    if (width, height) != stated:
        turned = f" (EXIF orientation {way})" if way >= TURNED else ""
        return "image_size", f"{name} is {width}x{height}{turned}, stated {stated[0]}x{stated[1]}"
    is_ambiguous = 2 <= way < TURNED or (way >= TURNED and width == height)
    return "image_orientation" if is_ambiguous else "", name


def same_content(paths: Iterable[str]) -> list[list[str]]:
    """Groups of different files with the same bytes; only files of equal length are read."""
    files = filter(os.path.isfile, dict.fromkeys(map(os.path.realpath, paths)))
    return [
        group
        for same_length in _groups(files, os.path.getsize)
        for group in _groups(same_length, lambda path: blake2b(Path(path).read_bytes()).digest())
    ]


def _groups(paths: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Two or more paths with the same ``key``."""
    groups = defaultdict(list)
    for path in paths:
        groups[key(path)].append(path)
    return [group for group in groups.values() if len(group) > 1]


def check_splits(paths: dict[str, Sequence[str]], with_content: bool) -> Iterator[Finding]:
    """Images that are in two splits, or twice in one under several names; ``paths`` are by split.

    A name alone is no evidence: cameras number their images from 1 in every folder. ``with_content`` compares
    the files' bytes too.
    """
    splits = defaultdict(set)
    for split, files in paths.items():
        for path in files:
            splits[os.path.realpath(path)].add(split)
    shared, copies = [path for path, names in splits.items() if len(names) > 1], []
    for group in same_content(splits) if with_content else ():
        in_one_split = len(set().union(*(splits[path] for path in group))) == 1
        (copies if in_one_split else shared).append(" = ".join(group))
    if shared:
        message = f"images that are in more than one of {', '.join(paths)}"
        remedy = "The metric does not show how well the model does on new images."
        yield Finding("image_in_two_splits", message, shared, remedy)
    if copies:
        yield Finding("image_copied", "images that have a copy under another name", copies)
