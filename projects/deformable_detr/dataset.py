"""COCO data that says what is wrong with it before training starts."""

import logging
from collections import defaultdict
from math import isfinite

import cv2
from mmdet.datasets import CocoDataset as _CocoDataset
from mmengine.logging import print_log

from .coco_file import CocoFile, shorten
from .data_workers import note_image
from .errors import InputError
from .registry import DATASETS


@DATASETS.register_module()
class CocoDataset(_CocoDataset):
    """mmdet's ``CocoDataset`` with its input checked.

    Boxes that cannot be learnt (not finite, of no area, thinner than a pixel, outside the image) and
    annotations whose image or category the file does not hold are skipped, counted and named in one
    warning. Boxes partly outside the image stay as they are: the transforms clip them. Crowd boxes keep
    ``ignore_flag`` 1. Arguments are those of mmdet's class.

    Attributes:
        max_instances (tuple[int, str]): The most objects (crowds left out) in one image, and its path.

    Raises:
        InputError: The annotation file is missing or not COCO, its categories do not match the classes,
            no image is left, or all annotations are skipped.
    """

    max_instances: tuple[int, str] = (0, "")

    def load_data_list(self) -> list[dict]:
        """Read the annotation file once; see mmdet's method for what an item holds."""
        self._skipped: dict[str, list[str]] = defaultdict(list)
        data_list = super().load_data_list()
        if self._skipped:
            report = self._skipped_report()
            if not any(info["instances"] for info in data_list):
                raise InputError(
                    f"{self.ann_file}: {report}\nNone is left. Boxes are x, y, width, height in pixels; "
                    "ids are equal only if their types are."
                )
            self._warn(report)
        return data_list

    def COCOAPI(self, path: str) -> CocoFile:
        """Read ``path``; mmdet's ``load_data_list`` calls what has this name."""
        coco = CocoFile(path, scored=self.test_mode)
        self._check_classes([category["name"] for category in coco.dataset["categories"]])
        for ann in coco.dataset.get("annotations", []):
            for key, known in ("image_id", coco.imgs), ("category_id", coco.cats):
                if ann[key] not in known:
                    fault = f"whose {key} the file does not hold"
                    self._skipped[fault].append(f"annotation {ann['id']} ({key} {ann[key]!r})")
        return coco

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """Leave out the boxes that cannot be learnt, then parse as mmdet does."""
        image = raw_data_info["raw_img_info"]
        kept = []
        for ann in raw_data_info["raw_ann_info"]:
            fault = _box_fault(ann, image["width"], image["height"])
            if fault is None:
                kept.append(ann)
            elif ann["category_id"] in self.cat2label and not ann.get("ignore", False):
                self._skipped[fault].append(f"annotation {ann['id']} in {image['file_name']}")
        return super().parse_data_info({"raw_img_info": image, "raw_ann_info": kept})

    def filter_data(self) -> list[dict]:
        """Apply ``filter_cfg`` as mmdet does, and say how many images that leaves out."""
        kept = super().filter_data()
        total = len(self.data_list)
        if not kept:
            raise InputError(
                f"{self.ann_file}: "
                + (
                    f"filter_cfg={dict(self.filter_cfg)} leaves none of its {total} images"
                    if total
                    else "it holds no image"
                )
            )
        if len(kept) < total:
            print_log(
                f"{self.ann_file}: {total - len(kept)} of {total} images are left out by "
                f"filter_cfg={dict(self.filter_cfg)}",
                logger="current",
            )
        self.max_instances = max(
            (sum(not instance["ignore_flag"] for instance in info["instances"]), info["img_path"])
            for info in kept
        )
        return kept

    def prepare_data(self, idx: int) -> dict | None:
        """Load and transform an image; an error of OpenCV, which names no file, becomes one that does."""
        info = self.get_data_info(idx)
        note_image(info["img_path"])
        try:
            return self.pipeline(info.copy())
        except cv2.error as error:
            raise InputError(
                f"image {info['img_path']} ({info['width']}x{info['height']}) cannot be transformed: {error} "
                "A very thin image has no pixel left after a resize: filter_cfg=dict(min_size=N) leaves out "
                "training images with a side below N pixels."
            ) from error

    def _check_classes(self, categories: list[str]) -> None:
        classes = self._metainfo["classes"]
        if isinstance(classes, str):
            raise InputError(
                f"metainfo: classes is the string {classes!r}; for one class write "
                f"metainfo=dict(classes=({classes!r},))"
            )
        classes = list(classes)
        both = (
            f"\n  classes of the data set ({len(classes)}): {classes}"
            f"\n  categories of the file ({len(categories)}): {categories}"
        )
        if [name for name in categories if name in classes] != classes:
            # mmdet and its metric number the labels by the file's order, so the order counts too.
            absent = [name for name in classes if name not in categories]
            fault = (
                f"it has no category {shorten(absent)}"
                if absent
                else "names repeat or differ in order"
            )
            raise InputError(
                f"{self.ann_file}: classes and categories disagree, {fault}{both}\n"
                "Give the data sets the names in the file's order, and the model as many num_classes:\n"
                f"  metainfo=dict(classes={tuple(categories)})"
            )
        if len(categories) > len(classes):
            self._warn(f"boxes of categories that are not among the classes are ignored{both}")

    def _skipped_report(self) -> str:
        total = sum(map(len, self._skipped.values()))
        lines = [
            f"\n  {len(names)} {fault}: {shorten(names)}" for fault, names in self._skipped.items()
        ]
        scored = "\n  (the COCO metric reads the file itself and still counts them)"
        return f"{total} annotations are skipped" + "".join(lines) + scored * self.test_mode

    def _warn(self, message: str) -> None:
        print_log(f"{self.ann_file}: {message}", logger="current", level=logging.WARNING)


def _box_fault(ann: dict, image_width: float, image_height: float) -> str | None:
    x, y, width, height = ann["bbox"]
    if not all(map(isfinite, (x, y, width, height, ann["area"]))):
        return "not finite"
    if min(width, height) <= 0:
        return "of zero or negative width or height"
    if ann["area"] <= 0:
        return "whose 'area' is zero or negative"
    if min(width, height) < 1:
        return "thinner than a pixel"
    if x >= image_width or y >= image_height or x + width <= 0 or y + height <= 0:
        return "outside the image"
    return None
