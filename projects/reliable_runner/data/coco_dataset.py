"""COCO data that says what is wrong with it before training starts."""

from collections.abc import Sequence

import numpy as np
from mmdet.datasets import CocoDataset as _CocoDataset
from mmengine.logging import MMLogger

from ..errors import InputError
from ..files.coco_file import CocoFile, shorten
from ..log import warn
from .categories import both_lists, compare_names
from .finding import Finding
from .image_loading import missing_files
from .seeded_items import SeededItems
from .statistics import Statistics
from .step_errors import name_steps
from .workers import note_image


class CocoDataset(_CocoDataset, SeededItems):
    """mmdet's ``CocoDataset`` with its input checked.

    Boxes that cannot be trained on (NaN or infinite, of no area, thinner than a pixel, outside the image) and
    annotations whose image or category the file does not hold are skipped, counted and named in one
    warning. Boxes partly outside the image stay as they are: the transforms clip them. Crowd boxes keep
    ``ignore_flag`` 1. What is random about a training image is seeded (`SeededItems`).

    `InputError` if the annotation file is missing or not COCO, its categories do not match the classes, no
    image is left, or all annotations are skipped.
    """

    max_instances: tuple[int, str] = (0, "")  # the most objects (crowds left out) in one image, and its path
    summary: Sequence[str] = ()  # lines about the classes and the sizes of the objects in the file
    suspicions: Sequence[Finding] = ()  # what all of the file looks like, and may be meant so
    missing_images: Sequence[str] = ()  # paths

    def load_data_list(self) -> list[dict]:
        data_list = super().load_data_list()
        if self._skipped:
            total = sum(map(len, self._skipped.values()))
            lines = [f"\n  {len(names)} {fault}: {shorten(names)}" for fault, names in self._skipped.items()]
            scored = "\n  (the COCO metric reads the file itself and still counts them)" * self.test_mode
            report = f"{self.ann_file}: {total} annotations are skipped{''.join(lines)}{scored}"
            if not any(info["instances"] for info in data_list):
                raise InputError(
                    f"{report}\nNone is left. Boxes are x, y, width, height in pixels; ids are equal only if "
                    "their types are."
                )
            warn(report)
        return data_list

    def COCOAPI(self, path: str) -> CocoFile:
        """Read ``path``; mmdet's ``load_data_list`` calls what has this name."""
        classes = self._metainfo["classes"]
        coco = CocoFile(path, self.data_prefix.get("img", ""), classes)
        content = coco.dataset
        categories = [category["name"] for category in content["categories"]]
        compare_names(classes, categories, self.ann_file)
        if len(categories) > len(classes):
            lists = both_lists(classes, categories)
            warn(f"{self.ann_file}: boxes of categories that are not among the classes are ignored{lists}")
        statistics = Statistics(content, classes)
        self.summary, self.suspicions = statistics.summary(), statistics.suspicions()
        self._skipped = statistics.faulty()
        self._faulty_ids = {statistics.ids[i] for i in np.flatnonzero(statistics.faults >= 0)}
        for key, known in ("image_id", coco.imgs), ("category_id", coco.cats):
            if unknown := [ann for ann in content["annotations"] if ann[key] not in known]:
                names = [f"annotation {ann['id']} ({key} {ann[key]!r})" for ann in unknown]
                self._skipped[f"whose {key} the file does not hold"] = names
        return coco

    def parse_data_info(self, raw_data_info: dict) -> dict:
        kept = [ann for ann in raw_data_info["raw_ann_info"] if ann["id"] not in self._faulty_ids]
        return super().parse_data_info({**raw_data_info, "raw_ann_info": kept})

    def filter_data(self) -> list[dict]:
        kept = super().filter_data()
        total = len(self.data_list)
        if not total:
            raise InputError(f"{self.ann_file}: it holds no image")
        leaves = f"{self.ann_file}: filter_cfg={dict(self.filter_cfg or {})} leaves"
        if not kept:
            raise InputError(f"{leaves} none of its {total} images")
        if len(kept) < total:
            MMLogger.get_current_instance().info(f"{leaves} out {total - len(kept)} of {total} images")
        self.max_instances = max(
            (sum(not instance["ignore_flag"] for instance in info["instances"]), info["img_path"])
            for info in kept
        )
        self.missing_images = missing_files(info["img_path"] for info in kept)
        return kept

    @name_steps
    def prepare_data(self, idx: int) -> dict | None:
        info = self.get_data_info(idx)
        note_image(info["img_path"])
        return self.pipeline(info.copy())
