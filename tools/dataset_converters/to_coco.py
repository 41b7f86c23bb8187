"""Convert what a label tool exports to COCO, in the layout that configs/ddetr_r18_custom.py reads.

    python tools/dataset_converters/to_coco.py EXPORT data/mine --split 0.8 --seed 0

reads Pascal VOC, YOLO, LabelMe, CVAT for images 1.1 or COCO, and writes ``annotations/{train,val}.json`` and
links to the images in ``train/`` and ``val/``. Then it checks the result as tools/check_dataset.py does; the
exit status is 1 if a training cannot start on it. See docs/custom_data.md.
"""

import json
import os
import shutil
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from projects.dataset_report.check import check_datasets
from projects.dataset_report.report import Report
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_completion import complete
from projects.reliable_runner.files.media import short_names
from projects.reliable_runner.launcher import parse_config, run_tool
from projects.reliable_runner.progress import progress
from tools.dataset_converters import coco, cvat, labelme, voc, yolo
from tools.dataset_converters.export import Picture, find_files
from tools.dataset_converters.split import split_pictures

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "ddetr_r18_custom.py"
FORMATS = dict(voc=voc, yolo=yolo, labelme=labelme, cvat=cvat, coco=coco)
_YOLO = "*.yaml", "*.yml", "classes.txt", "obj.names", "labels/*.txt", "*/labels/*.txt", "labels/*/*.txt"
_LABEL_STUDIO = "notes.json"  # beside its exports of YOLO


def main(argv: list[str] | None = None) -> None:
    """Convert as ``argv`` (by default the command line) says; exit with status 1 if no training can start."""
    parser = ArgumentParser(description="Convert what a label tool exports to COCO.")
    parser.add_argument("export", type=Path, help="folder of the export, unpacked")
    parser.add_argument("out_dir", type=Path, help="new folder for annotations/, train/ and val/")
    parser.add_argument("--from", dest="format", choices=FORMATS, help="the format (told by looking)")
    what = "share of the images to train on, where the export has no val split (0.8); 1 leaves out val"
    parser.add_argument("--split", type=_share, help=what)
    parser.add_argument("--seed", type=int, default=0, help="decides which images these are (0)")
    parser.add_argument("--copy", action="store_true", help="copy the images instead of linking to them")
    args = parser.parse_args(argv)

    if args.out_dir.exists() and not (args.out_dir.is_dir() and not any(args.out_dir.iterdir())):
        raise InputError(f"{args.out_dir}: it is there already; name a new folder, or remove it")
    classes, pictures = read_export(args.export, args.format)
    splits = split_pictures(pictures, args.export, args.split, args.seed)
    write(args.out_dir, classes, splits, args.copy)
    report = audit(args.out_dir, classes, list(splits))
    print(f'{report}\n\nFor a config:\ndata_root = "{args.out_dir.as_posix()}/"\nclasses = {tuple(classes)}')
    if report.errors:
        sys.exit(1)


def _share(text: str) -> float:
    try:
        if 0 < (share := float(text)) <= 1:
            return share
    except ValueError:
        pass
    raise ArgumentTypeError(f"{text!r} is not above 0 and at most 1")


def tell_format(folder: Path) -> str:
    """The one of `FORMATS` that files in ``folder`` look like; `InputError` if none does, or several do."""
    found = {"yolo"} if any(any(folder.glob(pattern)) for pattern in _YOLO) else set()
    for path in find_files(folder, "**/*.xml")[:1]:
        head = path.read_bytes()[:4096].replace(b"\0", b"")  # without the zeros of UTF-16
        found.add("cvat" if b"<annotations" in head else "voc")
    for path in [x for x in find_files(folder, "**/*.json") if x.name != _LABEL_STUDIO][:1]:
        found.add("labelme" if b'"imagePath"' in path.read_bytes() else "coco")
    if not found:
        wanted = "XML of Pascal VOC or CVAT, data.yaml or classes.txt of YOLO, JSON of LabelMe or COCO"
        raise InputError(f"{folder}: no annotations found: the format is unknown. Looked for {wanted}")
    if len(found) > 1:
        raise InputError(f"{folder}: it looks like {' and '.join(sorted(found))}; say which with --from")
    return found.pop()


def read_export(folder: Path, name: str | None = None) -> tuple[list[str], list[Picture]]:
    """Read an export in the format ``name``, by default that which it looks like: its classes and pictures.

    Classes are sorted if the format has no order of its own. `InputError` names the file, and line or object.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; unpack an archive first")
    pictures: dict[Path, Picture] = {}
    try:
        name = name or tell_format(folder)
        with progress(0, "image", desc=f"reading {name}") as bar:
            export = FORMATS[name].read(folder)
            bar.total = export.num_images
            for picture in export.pictures:
                first = pictures.setdefault(picture.path.resolve(), picture)
                if first is not picture:
                    places = " and ".join(f"{one.source} (split {one.split})" for one in (first, picture))
                    raise InputError(f"image {picture.path} is there twice: {places}")
                bar.update()
    except OSError as error:
        raise InputError(f"{error.filename}: it can't be read ({error.strerror})") from error
    used = {found["name"]: one.source for one in pictures.values() for found in one.objects}
    if not used:
        raise InputError(f"{folder}: no annotations found: {len(pictures)} images of {name}, and no object")
    classes = sorted(used) if export.classes is None else export.classes
    for label in used.keys() - set(classes):
        raise InputError(f"{used[label]}: an object is of class {label!r}, which is not among {classes}")
    return classes, list(pictures.values())


def write(out_dir: Path, classes: Sequence[str], splits: dict[str, list[Picture]], copy: bool) -> None:
    """Write ``annotations/SPLIT.json`` and ``SPLIT/`` with copies of the images or relative links to them.

    `InputError` if ``out_dir``, which is new or empty, can't be written; then nothing is.
    """
    unfinished = out_dir.with_name(f"{out_dir.name}.{os.getpid()}.unfinished")
    try:
        (unfinished / "annotations").mkdir(parents=True)
        for split, part in splits.items():
            names = short_names([picture.path for picture in part])
            text = json.dumps(coco_content(classes, part, names))
            (unfinished / "annotations" / f"{split}.json").write_text(text)
            for picture, name in zip(part, names, strict=True):
                image = unfinished / split / name
                image.parent.mkdir(parents=True, exist_ok=True)
                if copy:
                    shutil.copyfile(picture.path, image)
                else:
                    image.symlink_to(os.path.relpath(picture.path.resolve(), image.parent.resolve()))
        if out_dir.exists():
            out_dir.rmdir()
        unfinished.rename(out_dir)
    except OSError as error:
        hint = "" if copy else "; where links are not allowed --copy may help"
        raise InputError(f"{out_dir}: it can't be written ({error}){hint}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def coco_content(classes: Sequence[str], pictures: Sequence[Picture], names: Sequence[str]) -> dict:
    """What a COCO file of ``pictures`` holds, ids from 1 on; ``names`` are their file names."""
    ids = {name: number for number, name in enumerate(classes, 1)}
    images, annotations = [], []
    for image_id, (picture, name) in enumerate(zip(pictures, names, strict=True), 1):
        images.append(dict(id=image_id, file_name=name, width=picture.size[0], height=picture.size[1]))
        for found in picture.objects:
            label = found.pop("name")
            place = dict(id=len(annotations) + 1, image_id=image_id, category_id=ids[label])
            annotations.append(found | place)
    categories = [dict(id=number, name=name) for name, number in ids.items()]
    content = dict(images=images, annotations=annotations, categories=categories)
    complete(content)
    return content


def audit(folder: Path, classes: Sequence[str], splits: Sequence[str]) -> Report:
    options = dict(data_root=f"{folder}/", classes=tuple(classes))
    cfg = parse_config(Namespace(config=str(CONFIG), cfg_options=options))
    test = dict(ann_file="annotations/test.json", data_prefix=dict(img="test/"))
    cfg.merge_from_dict({"test_dataloader.dataset": test})
    return check_datasets(cfg, splits)


if __name__ == "__main__":
    sys.exit(run_tool(main))
