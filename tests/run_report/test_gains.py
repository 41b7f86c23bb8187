"""AP50 against pycocotools, and what it gains where the curve is known."""

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.reliable_runner.log import quiet
from projects.run_report.error_kinds import BACKGROUND, BOTH, CLASS, DOUBLED, KINDS, MISSED, PLACE, judge
from projects.run_report.gains import gains


def made(seed: int, num_images: int = 12, num_classes: int = 3) -> tuple[list, list]:
    """Detections around objects, some moved, of other classes, twice or of nothing; and a crowd an image."""
    random = np.random.default_rng(seed)
    results, truth = [], []
    for _ in range(num_images):
        starts, sides = random.uniform(0, 200, (7, 2)), random.uniform(20, 60, (7, 2))
        boxes, labels = np.hstack((starts, starts + sides)), random.integers(0, num_classes, 7)
        truth.append(dict(boxes=boxes, labels=labels, crowd=np.arange(7) == 6))
        chosen = random.integers(0, 7, 12)
        moved = boxes[chosen] + random.normal(0, 7, (12, 2)).repeat(2, 0).reshape(12, 4)
        others = np.where(random.random(12) < 0.2, random.integers(0, num_classes, 12), labels[chosen])
        results.append(dict(bboxes=moved, scores=random.random(12), labels=others))
    return results, truth


def coco_ap50(results: list, truth: list, num_classes: int = 3) -> float:
    def sized(x1, y1, x2, y2):
        return [x1, y1, x2 - x1, y2 - y1]

    anns, found = [], []
    for i, (image, objects) in enumerate(zip(results, truth, strict=True)):
        for box, label, crowd in zip(
            objects["boxes"].tolist(), objects["labels"], objects["crowd"], strict=True
        ):
            ann = dict(id=len(anns) + 1, image_id=i, category_id=int(label), bbox=sized(*box))
            anns.append(ann | dict(area=1000, iscrowd=int(crowd)))
        for box, label, score in zip(image["bboxes"].tolist(), image["labels"], image["scores"], strict=True):
            found.append(dict(image_id=i, category_id=int(label), bbox=sized(*box), score=float(score)))
    with quiet():
        coco = COCO()
        coco.dataset = dict(
            images=[dict(id=i) for i in range(len(truth))],
            categories=[dict(id=i) for i in range(num_classes)],
            annotations=anns,
        )
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[1]


@pytest.mark.parametrize("seed", range(4))
def test_ap50_is_cocos(seed):
    results, truth = made(seed)
    judged = [judge(*pair) for pair in zip(results, truth, strict=True)]
    ap50, gained = gains(judged, 3)
    assert ap50 == pytest.approx(coco_ap50(results, truth), abs=1e-9)
    assert 0.2 < ap50 < 0.9 and min(gained.values()) >= 0
    assert {kind for kind in KINDS if sum(image.count(kind) for image in judged)} == set(KINDS)


def judge_rows(found: list, objects: list):
    """Detections (x, label, score) and objects (x, label), boxes of 10 x 10 pixels."""
    found, objects = np.array(found, float), np.array(objects, float)
    boxes, true_boxes = (rows[:, :1] * [1, 0, 1, 0] + [0, 0, 10, 10] for rows in (found, objects))
    results = dict(bboxes=boxes, labels=found[:, 1].astype(int), scores=found[:, 2])
    labels = objects[:, 1].astype(int)
    return judge(results, dict(boxes=true_boxes, labels=labels, crowd=np.zeros(len(labels), bool)))


# The first detection is right, at a score of 0.9: without errors AP50 is 1, of one in two objects 51 / 101.
ONE, HALF = 1.0, 51 / 101


@pytest.mark.parametrize(
    ("others", "ap50", "kind", "gain"),
    [
        ([], HALF, MISSED, ONE - HALF),
        ([(105, 0, 0.5)], HALF, PLACE, ONE - HALF),
        ([(1, 0, 0.5)], HALF, DOUBLED, 0.0),  # after the right one, so it costs nothing
        ([(500, 0, 0.95)], HALF / 2, BACKGROUND, HALF / 2),
    ],
)
def test_what_one_error_costs(others, ap50, kind, gain):
    """Two objects of a class; the right detection of the first, and one more."""
    found, gained = gains([judge_rows([(0, 0, 0.9), *others], [(0, 0), (100, 0)])], 1)
    assert found == pytest.approx(ap50)
    assert gained[kind] == pytest.approx(gain)


def test_a_wrong_class_costs_in_two_classes():
    """Red 1 of 2 found; the other red is taken for blue, before the right blue."""
    judged = judge_rows([(0, 0, 0.9), (100, 1, 0.8), (200, 1, 0.7)], [(0, 0), (100, 0), (200, 1)])
    ap50, gained = gains([judged], 2)
    assert ap50 == pytest.approx((HALF + 1 / 2) / 2)
    assert gained[CLASS] == pytest.approx(1 - ap50)
    assert all(gained[kind] == 0 for kind in (MISSED, PLACE, BOTH, DOUBLED, BACKGROUND))
