"""Which error a detection is, after TIDE (Bolya et al., ECCV 2020, arXiv:2008.08050, section 2.2).

A detection that finds no object is the first of these that it can be. With an object of its own class it
overlaps by 0.1 to 0.5: badly placed. With one of another class by 0.5 or more: wrong class. With one of its
own class by 0.5 or more, which a more certain one has found: doubled. With none by more than 0.1: background.
Else, it is of the wrong class and badly placed. Missed are the objects that nothing found, but for those for
which there is a detection of the wrong class or badly placed.
"""

from dataclasses import dataclass

import numpy as np
from pycocotools.mask import iou

FOUND, IGNORED = "found", "ignored"  # no errors: a detection of an object, and one on a crowd
KINDS = "missed", "wrong class", "badly placed", "wrong class and badly placed", "doubled", "background"
MISSED, CLASS, PLACE, BOTH, DOUBLED, BACKGROUND = KINDS
FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1


@dataclass
class Judged:
    """The detections and objects of an image; boxes are x1, y1, x2, y2 in pixels."""

    boxes: np.ndarray  # (n, 4), the detections, the most certain first
    scores: np.ndarray  # (n,)
    labels: np.ndarray  # (n,)
    kinds: np.ndarray  # (n,), of `KINDS` but for "missed", or `FOUND` or `IGNORED`
    # (n,), the object that it has found, is badly placed for, takes for another class or doubles; else -1
    partners: np.ndarray
    overlaps: np.ndarray  # (n,), its IoU with that object; without one the largest with any object
    true_boxes: np.ndarray  # (m, 4), the objects, without crowds
    true_labels: np.ndarray  # (m,)
    is_found: np.ndarray  # (m,), bool
    is_missed: np.ndarray  # (m,), bool; what is neither has a detection that is wrong about it

    def count(self, kind: str) -> int:
        return int(self.is_missed.sum() if kind == MISSED else (self.kinds == kind).sum())

    @property
    def num_errors(self) -> int:
        return sum(map(self.count, KINDS))


def judge(found: dict, objects: dict[str, np.ndarray], score_thr: float = 0.0) -> Judged:
    """Judge the detections of an image, ``bboxes`` (n, 4), ``scores`` (n,), ``labels`` (n,).

    ``objects`` are those of `saved_results.true_objects`; detections below ``score_thr`` are left out.
    """
    boxes, scores, labels = (np.asarray(found[key]) for key in ("bboxes", "scores", "labels"))
    order = np.argsort(-scores, kind="stable")
    order = order[scores[order] >= score_thr]
    boxes, scores, labels = boxes[order].astype(float), scores[order], labels[order].astype(int)
    crowd = objects["crowd"]
    true_boxes, true_labels = objects["boxes"][~crowd], objects["labels"][~crowd]

    overlaps = _overlaps(boxes, true_boxes, is_crowd=False)
    is_own = labels[:, None] == true_labels
    own, other = np.where(is_own, overlaps, 0), np.where(is_own, 0, overlaps)
    partners, is_found = np.full(len(boxes), -1), np.zeros(len(true_boxes), bool)
    for i in range(len(boxes)):
        free = np.where(is_found, 0, own[i])
        if free.max(initial=0) >= FOREGROUND_IOU:
            partners[i] = free.argmax()
            is_found[partners[i]] = True

    of_crowd = _overlaps(boxes, objects["boxes"][crowd], is_crowd=True)
    of_crowd = np.where(labels[:, None] == objects["labels"][crowd], of_crowd, 0).max(1, initial=0)
    best, best_own, best_other = (x.max(1, initial=0) for x in (overlaps, own, other))
    kinds = np.select(
        [
            partners >= 0,
            of_crowd >= FOREGROUND_IOU,
            (best_own >= BACKGROUND_IOU) & (best_own < FOREGROUND_IOU),
            best_other >= FOREGROUND_IOU,
            best_own >= FOREGROUND_IOU,
            best <= BACKGROUND_IOU,
        ],
        [FOUND, IGNORED, PLACE, CLASS, DOUBLED, BACKGROUND],
        BOTH,
    )
    for kind, of_kind in ((PLACE, own), (CLASS, other), (DOUBLED, own)):
        partners[kinds == kind] = of_kind[kinds == kind].argmax(1) if (kinds == kind).any() else -1
    paired = partners >= 0
    best[paired] = overlaps[paired, partners[paired]]
    is_missed = ~is_found
    is_missed[partners[(kinds == PLACE) | (kinds == CLASS)]] = False
    return Judged(boxes, scores, labels, kinds, partners, best, true_boxes, true_labels, is_found, is_missed)


def _overlaps(boxes: np.ndarray, others: np.ndarray, is_crowd: bool) -> np.ndarray:
    """COCO's IoU, (n, m); with crowds the share of the box that lies in one."""
    sized = (np.c_[x[:, :2], x[:, 2:] - x[:, :2]] for x in (boxes, others))
    return np.reshape(iou(*sized, [is_crowd] * len(others)), (len(boxes), len(others)))
