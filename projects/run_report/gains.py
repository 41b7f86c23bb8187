"""What each kind of error costs: how much AP50 rises without it (TIDE, section 2.3, and equation 1)."""

from collections.abc import Sequence

import numpy as np

from .error_kinds import CLASS, FOUND, IGNORED, KINDS, MISSED, PLACE, Judged

_RECALLS = np.linspace(0, 1, 101)


def ap50(scores: np.ndarray, labels: np.ndarray, is_right: np.ndarray, num_objects: np.ndarray) -> float:
    """COCO's AP at an IoU of 0.5, the mean of the classes that have objects.

    Scores, labels and whether it is right, (n,), are of all detections, ``num_objects`` is (num_classes,).
    """
    aps = [
        _of_class(scores[labels == label], is_right[labels == label], number)
        for label, number in enumerate(num_objects)
        if number
    ]
    return float(np.mean(aps)) if aps else 0.0


def _of_class(scores: np.ndarray, is_right: np.ndarray, num_objects: int) -> float:
    hits = np.cumsum(is_right[np.argsort(-scores, kind="stable")])
    precision = hits / np.arange(1, len(hits) + 1)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.append(precision, 0)[np.searchsorted(hits / num_objects, _RECALLS)].mean())


def gains(judged: Sequence[Judged], num_classes: int) -> tuple[float, dict[str, float]]:
    """AP50 and what it gains where one kind of error is mended.

    A detection of the wrong class gets the right one, a badly placed box its place, if it is the most certain
    of those for an object that nothing has found, and else is left out, as are all other false detections.
    Missed objects are not asked for. ``judged`` are all detections of all images, however uncertain.
    """
    scores, labels, kinds, true_labels, is_missed, is_found = (
        np.concatenate([getattr(image, key) for image in judged])
        for key in ("scores", "labels", "kinds", "true_labels", "is_missed", "is_found")
    )
    starts = np.cumsum([0, *(len(image.true_labels) for image in judged)])
    partners = np.concatenate(
        [image.partners + start for image, start in zip(judged, starts[:-1], strict=True)]
    )
    num_objects = np.bincount(true_labels, minlength=num_classes)
    mendable = np.flatnonzero(np.isin(kinds, (CLASS, PLACE)))
    mendable = mendable[~is_found[partners[mendable]]]
    mendable = mendable[np.argsort(-scores[mendable], kind="stable")]
    best = np.isin(np.arange(len(scores)), mendable[np.unique(partners[mendable], return_index=True)[1]])

    counted, right = kinds != IGNORED, kinds == FOUND
    now = ap50(scores[counted], labels[counted], right[counted], num_objects)
    gained = {}
    for kind in KINDS:
        mended = best & (kinds == kind)
        kept = counted & ((kinds != kind) | mended)
        new_labels = labels.copy()
        new_labels[mended] = true_labels[partners[mended]]
        missed = np.bincount(true_labels[is_missed], minlength=num_classes) * (kind == MISSED)
        better = ap50(scores[kept], new_labels[kept], (right | mended)[kept], num_objects - missed)
        gained[kind] = better - now
    return now, gained
