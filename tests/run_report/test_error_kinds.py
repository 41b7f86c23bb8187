"""Each kind of error once, by boxes whose overlaps are plain: 10 x 10 pixels, moved to the right."""

import numpy as np
import pytest
import torch

from projects.run_report.error_kinds import (
    BACKGROUND,
    BOTH,
    CLASS,
    DOUBLED,
    FOUND,
    IGNORED,
    KINDS,
    MISSED,
    PLACE,
    judge,
)

RED, BLUE = 0, 1


def box(x: float, y: float = 0) -> list[float]:
    return [x, y, x + 10, y + 10]


def objects(*pairs, crowds=()) -> dict[str, np.ndarray]:
    pairs = [*pairs, *crowds]
    return dict(
        boxes=np.array([box for box, _ in pairs], float).reshape(-1, 4),
        labels=np.array([label for _, label in pairs], int),
        crowd=np.arange(len(pairs)) >= len(pairs) - len(crowds),
    )


def found(*rows) -> dict[str, torch.Tensor]:
    """Boxes, labels and, if they are not to fall by a tenth, scores."""
    scores = [row[2] if len(row) > 2 else 0.9 - i / 10 for i, row in enumerate(rows)]
    return dict(
        bboxes=torch.tensor([row[0] for row in rows]).view(-1, 4),
        labels=torch.tensor([row[1] for row in rows], dtype=torch.long),
        scores=torch.tensor(scores),
    )


@pytest.mark.parametrize(
    ("detection", "kind", "partner", "overlap", "is_missed"),
    [
        ((box(2), RED), FOUND, 0, 8 / 12, False),
        ((box(2), BLUE), CLASS, 0, 8 / 12, False),
        ((box(5), RED), PLACE, 0, 5 / 15, False),
        ((box(5), BLUE), BOTH, -1, 5 / 15, True),
        ((box(9), RED), BACKGROUND, -1, 1 / 19, True),
        ((box(9), BLUE), BACKGROUND, -1, 1 / 19, True),
        ((box(50), RED), BACKGROUND, -1, 0, True),
    ],
)
def test_one_detection_and_one_object(detection, kind, partner, overlap, is_missed):
    judged = judge(found(detection), objects((box(0), RED)))
    assert judged.kinds.tolist() == [kind] and judged.partners.tolist() == [partner]
    assert judged.overlaps[0] == pytest.approx(overlap)
    assert judged.is_found.tolist() == [kind == FOUND] and judged.is_missed.tolist() == [is_missed]
    assert judged.num_errors == (kind != FOUND) + is_missed


def test_each_kind_once():
    truth = objects(
        (box(0), RED),  # found, and doubled
        (box(100), RED),  # taken for blue
        (box(200), RED),  # badly placed
        (box(300), RED),  # both, so missed as well
        (box(400), BLUE),  # missed
    )
    predicted = found(
        (box(0), RED), (box(1), RED), (box(100), BLUE), (box(205), RED), (box(305), BLUE), (box(600), BLUE)
    )
    judged = judge(predicted, truth)
    assert judged.kinds.tolist() == [FOUND, DOUBLED, CLASS, PLACE, BOTH, BACKGROUND]
    assert judged.partners.tolist() == [0, 0, 1, 2, -1, -1]
    assert judged.is_missed.tolist() == [False, False, False, True, True]
    counts = {kind: judged.count(kind) for kind in KINDS}
    assert counts == {MISSED: 2, CLASS: 1, PLACE: 1, BOTH: 1, DOUBLED: 1, BACKGROUND: 1}
    assert judged.num_errors == 7


def test_the_more_certain_detection_takes_the_object():
    """Though the other, which stands first, overlaps more."""
    judged = judge(found((box(0), RED, 0.4), (box(3), RED, 0.8)), objects((box(0), RED)))
    assert judged.scores.tolist() == pytest.approx([0.8, 0.4])
    assert judged.kinds.tolist() == [FOUND, DOUBLED]


def test_a_detection_takes_the_free_object_that_it_overlaps_most():
    judged = judge(found((box(1), RED), (box(1), RED)), objects((box(3), RED), (box(0), RED)))
    assert judged.partners.tolist() == [1, 0] and judged.kinds.tolist() == [FOUND, FOUND]


def test_on_a_crowd_of_its_class_a_detection_is_no_error():
    crowd = objects(crowds=[([0, 0, 50, 50], RED)])
    judged = judge(found((box(20), RED), (box(20), BLUE), (box(46), RED)), crowd)
    assert judged.kinds.tolist() == [IGNORED, BACKGROUND, BACKGROUND]
    assert len(judged.is_missed) == 0


def test_uncertain_detections_are_left_out():
    judged = judge(found((box(0), RED, 0.29)), objects((box(0), RED)), score_thr=0.3)
    assert len(judged.kinds) == 0 and judged.is_missed.tolist() == [True]


def test_without_objects_or_detections():
    assert judge(found((box(0), RED)), objects()).kinds.tolist() == [BACKGROUND]
    assert judge(found(), objects((box(0), RED))).count(MISSED) == 1
    assert judge(found(), objects()).num_errors == 0
