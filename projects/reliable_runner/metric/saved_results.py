"""Predictions that tools/test.py --out has saved, beside the true objects of their images."""

from pathlib import Path

import numpy as np
from mmengine.dataset import BaseDataset

from ..errors import InputError
from ..files.coco_file import shorten
from ..files.data_file import SafePickleHandler


def read_results(path: Path) -> list[dict]:
    """Read what ``tools/test.py --out`` has written; nothing in it is run."""
    if not path.is_file():
        raise InputError(f"{path}: no such file; tools/test.py --out {path} writes it")
    results = SafePickleHandler().load_from_path(path)
    keys = {"img_id", "img_path", "pred_instances"}
    of_boxes = {"bboxes", "scores", "labels"}
    if not isinstance(results, list) or not (
        results
        and all(isinstance(entry, dict) and keys <= entry.keys() for entry in results)
        and all(of_boxes <= set(entry["pred_instances"]) for entry in results)
    ):
        raise InputError(f"{path}: it holds no predictions; tools/test.py --out {path} writes some")
    return results


def true_objects(dataset: BaseDataset, results: list[dict]) -> list[dict[str, np.ndarray]]:
    """The true objects of the image of each result.

    Those are ``boxes`` (n, 4) as x1, y1, x2, y2 in pixels, ``labels`` (n,) and ``crowd`` (n,), bool.
    `InputError` if the data set does not hold all images of the results, or they are of other classes.
    """
    infos = {info["img_id"]: info for info in map(dataset.get_data_info, range(len(dataset)))}
    if strange := [result["img_path"] for result in results if result["img_id"] not in infos]:
        raise InputError(
            f"the test set does not hold images of the predictions: {shorten(strange)}; give the config that "
            "they were made with"
        )
    num_classes = len(dataset.metainfo["classes"])
    if (label := max(int(max(x["pred_instances"]["labels"], default=0)) for x in results)) >= num_classes:
        raise InputError(
            f"the predictions are of other classes: one has the label {label}, but the test set has "
            f"{num_classes} classes; give the config that they were made with"
        )
    objects = [infos[result["img_id"]]["instances"] for result in results]
    return [
        dict(
            boxes=np.array([x["bbox"] for x in image], float).reshape(-1, 4),
            labels=np.array([x["bbox_label"] for x in image], int),
            crowd=np.array([x.get("ignore_flag", 0) for x in image], bool),
        )
        for image in objects
    ]
