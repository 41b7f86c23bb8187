"""Which class is taken for which."""

from collections.abc import Sequence

import numpy as np
from mmdet.evaluation import bbox_overlaps


def confusion_matrix(
    results: Sequence[dict],
    truth: Sequence[dict[str, np.ndarray]],
    num_classes: int,
    score_thr: float = 0.3,
    iou_thr: float = 0.5,
) -> np.ndarray:
    """Count the objects of each class by the class that is predicted for them.

    Every object and every detection of ``score_thr`` or more counts once, where MMDetection's tool counts
    each pair that overlaps. First detections of the right class take their objects, the most certain first;
    those left over take what is left of other classes. A detection on a crowd alone does not count.

    Args:
        results: ``pred_instances`` of each image, ``bboxes`` (n, 4), ``scores`` (n,), ``labels`` (n,).
        truth: see `saved_results.true_objects`.
        num_classes: without background.
        score_thr: least score of a detection, in [0, 1].
        iou_thr: least overlap of detection and object, in (0, 1].

    Returns (num_classes + 1, num_classes + 1), int. Rows are true classes, columns predicted ones; the last
    row are detections of nothing, the last column objects that are missed.
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), int)
    for result, objects in zip(results, truth, strict=True):
        found = {key: np.asarray(value) for key, value in result["pred_instances"].items()}
        order = np.argsort(-found["scores"], kind="stable")
        order = order[found["scores"][order] >= score_thr]
        boxes, predicted = found["bboxes"][order].astype(float), found["labels"][order].astype(int)
        crowd = objects["crowd"]
        labels, overlaps = objects["labels"][~crowd], bbox_overlaps(boxes, objects["boxes"][~crowd])
        in_crowd = (bbox_overlaps(boxes, objects["boxes"][crowd], mode="iof") >= iou_thr).any(1)

        taken_by = np.full(len(labels), num_classes)  # the class that is predicted for each object
        free_objects, free_found = np.ones(len(labels), bool), np.ones(len(boxes), bool)
        for right_class in (True, False):
            for i in np.flatnonzero(free_found):
                allowed = free_objects & (labels == predicted[i]) if right_class else free_objects
                overlap = np.where(allowed, overlaps[i], 0)
                if len(labels) and overlap.max() >= iou_thr:
                    best = overlap.argmax()
                    taken_by[best] = predicted[i]
                    free_objects[best] = free_found[i] = False
        np.add.at(matrix, (labels, taken_by), 1)
        np.add.at(matrix[-1], predicted[free_found & ~in_crowd], 1)
    return matrix
