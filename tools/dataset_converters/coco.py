"""COCO's JSON, in the layouts of COCO, Roboflow and CVAT."""

import re
from collections.abc import Iterator
from pathlib import Path

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import CocoFile
from projects.reliable_runner.log import quiet
from tools.dataset_converters.export import Export, Picture, find_files, find_image, size_of, split_of, unique


def read(folder: Path) -> Export:
    """Read JSON files in ``folder`` or a folder in it; their names or their folders' say the split.

    Annotations stay as they are, but for their ids.
    """
    files, classes = {}, {}
    for path in find_files(folder, "*.json", "*/*.json"):
        with quiet():
            files[path] = CocoFile(str(path))
        names = (category["name"] for category in files[path].dataset["categories"])
        classes |= dict.fromkeys(unique(names, path))
    num_images = sum(len(coco.imgs) for coco in files.values())
    pictures = (picture for path, coco in files.items() for picture in _pictures(path, coco, folder))
    return Export(list(classes), num_images, pictures)


def _pictures(path: Path, coco: CocoFile, folder: Path) -> Iterator[Picture]:
    for annotation in coco.anns.values():
        for key, known in ("image_id", coco.imgs), ("category_id", coco.cats):
            if annotation[key] not in known:
                where = f"{path}: annotation {annotation['id']}"
                raise InputError(f"{where}: its {key} {annotation[key]} is not in the file")
    split = split_of(re.split("[^a-z]+", path.relative_to(folder).as_posix().lower()))
    part = path.stem.removeprefix("instances_")
    folders = folder / part, folder / "images" / part, folder / "images", path.parent, folder
    for entry in coco.imgs.values():
        image = find_image(entry["file_name"], folders, path)
        size = size_of(image, path, (entry.get("width"), entry.get("height")))
        objects = [
            dict(one, name=coco.cats[one["category_id"]]["name"]) for one in coco.imgToAnns[entry["id"]]
        ]
        yield Picture(image, size, objects, path, split)
