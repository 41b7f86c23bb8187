"""Precision of each class and size, as the config's COCO metric counts it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from pycocotools.cocoeval import COCOeval

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.log import quiet
from projects.reliable_runner.metric.coco_metric import CocoMetric

_NOT_NEEDED = ("type", "metric", "metric_items", "classwise", "outfile_prefix", "format_only")


@dataclass
class Precision:
    """Of a test."""

    metrics: dict[str, float]  # what tools/test.py prints, ``bbox_mAP`` and so on
    # (num_ious, 101, num_classes, 4), at recalls 0 to 1, of objects of all sizes, small, medium and large
    # ones; -1 where there are none
    values: np.ndarray
    iou_thrs: np.ndarray  # (num_ious,)

    def at(self, iou_thr: float) -> np.ndarray:
        """The ``values`` at one IoU, (1, 101, num_classes, 4); (0, ...) if it is not among ``iou_thrs``."""
        return self.values[np.isclose(self.iou_thrs, iou_thr)]

    def of_class(self, label: int) -> list[float | None]:
        """AP, AP50, AP75, and AP of small, medium and large objects; None where there are none."""
        parts = [self.values[..., label, 0], self.at(0.5)[..., label, 0], self.at(0.75)[..., label, 0]]
        return [_mean(part) for part in [*parts, *np.moveaxis(self.values[..., label, 1:], -1, 0)]]


def _mean(values: np.ndarray) -> float | None:
    values = values[values > -1]
    return float(values.mean()) if values.size else None


def evaluate(cfg: Config, split: str, dataset: BaseDataset, results: Sequence[dict]) -> Precision:
    """Evaluate the predictions of `saved_results.read_results` with the ``<split>_evaluator`` of a config.

    Raises:
        InputError: the config has no COCO metric; the true boxes can't be read; there are no detections.
    """
    metrics = cfg.get(f"{split}_evaluator") or []
    metrics = metrics if isinstance(metrics, list) else [metrics]
    coco = [metric for metric in metrics if str(metric.get("type")).endswith("CocoMetric")]
    if not coco:
        raise InputError(f"{cfg.filename}: {split}_evaluator has no CocoMetric, whose numbers the page shows")
    made: list[COCOeval] = []  # what holds the curves

    def recorded(make: Callable) -> Callable:
        def call(*args, **kwargs) -> COCOeval:
            made.append(make(*args, **kwargs))
            return made[-1]

        return call

    with quiet():
        metric = CocoMetric(**{key: x for key, x in coco[0].items() if key not in _NOT_NEEDED})
        metric.dataset_meta = dataset.metainfo
        infos = {info["img_id"]: info for info in map(dataset.get_data_info, range(len(dataset)))}
        samples = [_sample(infos[result["img_id"]], result["pred_instances"]) for result in results]
        metric.process({}, samples)
        metric._evaluations = {name: recorded(make) for name, make in metric._evaluations.items()}
        found = metric.compute_metrics(metric.results)
    if not found:
        raise InputError("the predictions hold no detection, so nothing can be counted")
    return Precision(found, made[-1].eval["precision"][..., -1], np.asarray(made[-1].params.iouThrs))


def _sample(info: dict, found: dict) -> dict:
    predicted = {key: torch.as_tensor(found[key]) for key in ("bboxes", "scores", "labels")}
    return dict(info, ori_shape=(info["height"], info["width"]), pred_instances=predicted)
