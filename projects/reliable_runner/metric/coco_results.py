"""Detections as a COCO file."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from mmdet.structures import DetDataSample

from projects.checkpoint_conversion.classes import COCO_IDS

from ..data.coco_dataset import CocoDataset
from ..errors import InputError
from ..files.coco_file import CocoFile, shorten


class CocoResults:
    """Collects detections and writes them as a COCO file.

    Its ``annotations`` are what pycocotools' ``loadRes`` takes; with ``images`` and ``categories`` beside
    them the file is itself a data set. Without ``image_ids``, by file name, images are numbered from 1 on;
    without ``category_ids`` classes too, but COCO's 80 classes have COCO's ids.
    """

    def __init__(
        self,
        classes: Sequence[str],
        category_ids: Sequence[int] | None = None,
        image_ids: dict[str, int] | None = None,
    ) -> None:
        if category_ids is None:
            is_coco = tuple(classes) == CocoDataset.METAINFO["classes"]
            category_ids = COCO_IDS if is_coco else range(1, len(classes) + 1)
        self.names = dict(zip(category_ids, classes, strict=True))  # by category id
        self.categories = [dict(id=i, name=name) for i, name in self.names.items()]
        self.image_ids = image_ids
        self.images: list[dict] = []
        self.annotations: list[dict] = []

    def add(self, file_name: str, sample: DetDataSample, frame_id: int | None = None) -> list[dict]:
        """Add the ``pred_instances`` of an image, or of a video's frame ``frame_id``, from 0 on.

        Returns its annotations, of which ``bbox`` is x, y, width, height in pixels.
        """
        height, width = sample.ori_shape
        image_id = self.image_ids[file_name] if self.image_ids else len(self.images) + 1
        image = dict(id=image_id, file_name=file_name, width=width, height=height)
        self.images.append(image if frame_id is None else dict(image, frame_id=frame_id))
        first = len(self.annotations)
        found = (sample.pred_instances[key].tolist() for key in ("bboxes", "labels", "scores"))
        for (x1, y1, x2, y2), label, score in zip(*found, strict=True):
            w, h, category_id = x2 - x1, y2 - y1, self.categories[label]["id"]
            annotation = dict(id=len(self.annotations) + 1, image_id=image_id, category_id=category_id)
            self.annotations.append(
                annotation | dict(bbox=[x1, y1, w, h], area=w * h, iscrowd=0, score=score)
            )
        return self.annotations[first:]

    def describe(self, annotation: dict) -> str:
        """One line: class, score, and x, y, width, height of the box."""
        box = " ".join(f"{side:.1f}" for side in annotation["bbox"])
        return f"  {self.names[annotation['category_id']]} {annotation['score']:.3f}  {box}"

    def to_dict(self) -> dict:
        return dict(images=self.images, categories=self.categories, annotations=self.annotations)

    def save(self, path: Path) -> None:
        """Write the file; `InputError` if that can't be done."""
        write_json(path, self.to_dict())


def write_json(path: Path, contents: object) -> None:
    """Write ``contents`` and make the folder; `InputError` if that can't be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(contents), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: can't be written ({error.strerror})") from error


def ids_of(ann_file: Path, paths: Sequence[Path], classes: Sequence[str]) -> tuple[list[int], list[int]]:
    """The ids that a COCO file gives to images, with whose ``file_name`` a path ends, and to classes.

    `InputError` if the file can't be read, or does not hold all of them.
    """

    def ends(path: Path) -> Iterator[str]:  # a/b.jpg, then b.jpg
        parts = path.absolute().parts
        return ("/".join(parts[start:]) for start in range(1, len(parts)))

    coco = CocoFile(str(ann_file))
    by_file = {image["file_name"]: image["id"] for image in coco.imgs.values()}
    by_class = {category["name"]: category["id"] for category in coco.cats.values()}
    image_ids = [next((by_file[end] for end in ends(path) if end in by_file), None) for path in paths]
    lacking = [str(path) for path, known in zip(paths, image_ids, strict=True) if known is None]
    lacking += [f"class {name!r}" for name in classes if name not in by_class]
    if lacking:
        raise InputError(f"--ann-file {ann_file} does not hold {shorten(lacking)}")
    return image_ids, [by_class[name] for name in classes]
