import numpy as np
import pytest

from projects.reliable_runner.metric.confusion import confusion_matrix

A, B, C = [0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10]


def image(found: list[tuple], objects: list[tuple]) -> tuple[list[dict], list[dict]]:
    """An image's detections (box, label, score) and objects (box, label, crowd)."""
    boxes, labels, scores = ([x[i] for x in found] for i in range(3))
    result = dict(bboxes=np.array(boxes, float).reshape(-1, 4), labels=np.array(labels, int))
    result["scores"] = np.array(scores, float)
    boxes, labels, crowd = ([x[i] for x in objects] for i in range(3))
    truth = dict(boxes=np.array(boxes, float).reshape(-1, 4), labels=np.array(labels, int))
    return [dict(pred_instances=result)], [dict(truth, crowd=np.array(crowd, bool))]


@pytest.mark.parametrize(
    ("found", "objects", "counts"),
    [
        ([(A, 0, 0.9)], [(A, 0, False)], {(0, 0): 1}),
        ([(A, 1, 0.9)], [(A, 0, False)], {(0, 1): 1}),
        ([], [(A, 0, False)], {(0, 2): 1}),
        ([(A, 0, 0.9)], [], {(2, 0): 1}),
        ([(A, 0, 0.2)], [(A, 0, False)], {(0, 2): 1}),  # below the threshold
        ([(A, 0, 0.9), (A, 0, 0.8)], [(A, 0, False)], {(0, 0): 1, (2, 0): 1}),  # found twice
        ([(A, 1, 0.9), (A, 0, 0.5)], [(A, 0, False)], {(0, 0): 1, (2, 1): 1}),  # its own class first
        ([(A, 0, 0.9), (C, 1, 0.9)], [(A, 0, False), (B, 1, False)], {(0, 0): 1, (1, 2): 1, (2, 1): 1}),
        ([(A, 0, 0.9), (A, 0, 0.8)], [([0, 0, 50, 50], 0, True)], {}),  # in a crowd
    ],
)
def test_every_object_and_every_detection_counts_once(found, objects, counts):
    expected = np.zeros((3, 3), int)
    for place, number in counts.items():
        expected[place] = number
    np.testing.assert_array_equal(confusion_matrix(*image(found, objects), num_classes=2), expected)


def test_rows_are_the_objects_and_columns_the_detections():
    rng = np.random.default_rng(0)

    def draw(n: int) -> list[tuple]:
        corners = rng.uniform(0, 30, (n, 2))
        boxes = np.concatenate((corners, corners + rng.uniform(5, 20, (n, 2))), 1)
        return list(zip(boxes, rng.integers(0, 4, n), rng.uniform(0.3, 1, n), strict=True))

    found, objects = draw(200), [(box, label, False) for box, label, _ in draw(50)]
    matrix = confusion_matrix(*image(found, objects), num_classes=4)
    assert matrix[:-1].sum(1).tolist() == np.bincount([x[1] for x in objects], minlength=4).tolist()
    assert matrix[:, :-1].sum(0).tolist() == np.bincount([x[1] for x in found], minlength=4).tolist()
