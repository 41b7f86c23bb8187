"""AP by object size in finer bins than COCO's three."""

from itertools import pairwise

import numpy as np
from mmdet.evaluation.metrics import coco_metric
from mmengine.registry import METRICS

from projects.reliable_runner.metric.coco_metric import CocoMetric


@METRICS.register_module()
class SizeMetric(CocoMetric):
    """The COCO metric, and AP of the objects between each two of some sizes, e.g. ``AP_12-16``.

    ``sides``, rising, are the roots of areas in pixels; an object on the edge of two bins counts in both, as
    in COCO's own. ``kwargs`` are those of ``CocoMetric``.
    """

    def __init__(self, sides: list[float], **kwargs) -> None:
        super().__init__(**kwargs)
        self.sides = sides

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Those of ``CocoMetric``, and ``bbox_mAP_12-16`` and so on; -1 where there is no such object."""
        metrics = super().compute_metrics(results)
        detections = [
            dict(
                image_id=found["img_id"],
                category_id=self.cat_ids[label],
                bbox=[*box[:2], *(box[2:] - box[:2])],
                score=score,
            )
            for _, found in results
            for box, label, score in zip(found["bboxes"], found["labels"], found["scores"], strict=True)
        ]
        coco = self._coco_api
        evaluation = coco_metric.COCOeval(coco, coco.loadRes(detections), "bbox")
        evaluation.params.areaRng = [[least**2, most**2] for least, most in pairwise(self.sides)]
        evaluation.params.areaRngLbl = [f"{least}-{most}" for least, most in pairwise(self.sides)]
        evaluation.evaluate()
        evaluation.accumulate()
        # (IoU thresholds, recall thresholds, classes, sizes, numbers of detections)
        precision = evaluation.eval["precision"][..., -1]
        for index, label in enumerate(evaluation.params.areaRngLbl):
            counted = precision[..., index][precision[..., index] > -1]
            metrics[f"bbox_mAP_{label}"] = float(np.mean(counted)) if counted.size else -1.0
        return metrics
