"""Both backends give the same numbers, and all options of mmdet's metric hold with either."""

import importlib.util
import json
import math
import sys

import numpy as np
import pytest
import torch
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric as MMDetMetric
from pycocotools.cocoeval import COCOeval

from projects.reliable_runner.errors import InputError, NonFiniteError
from projects.reliable_runner.metric.coco_metric import CocoMetric, evaluations

CLASSES = ("cat", "dog", "cow")
IDS = (1, 18, 7)  # not rising: classwise goes by name all the same
FASTER = "faster_coco_eval"
needs_faster = pytest.mark.skipif(
    importlib.util.find_spec(FASTER) is None, reason="faster-coco-eval is not installed"
)
backends = pytest.mark.parametrize("backend", ["pycocotools", pytest.param(FASTER, marks=needs_faster)])


def draw(num_images: int = 30, num_boxes: int = 12, seed: int = 0) -> dict:
    """True boxes of all sizes in images of 640x480, a tenth of them crowds."""
    rng = np.random.default_rng(seed)
    images = [dict(id=i, file_name=f"{i}.jpg", width=640, height=480) for i in range(1, num_images + 1)]
    annotations = []
    for image in images[1:]:  # the first has none
        for _ in range(rng.integers(1, num_boxes)):
            x, y = rng.uniform(0, 400, 2)
            w, h = np.exp(rng.uniform(1.5, 5.2, 2))
            box = dict(id=len(annotations), image_id=image["id"], category_id=IDS[rng.integers(3)])
            box.update(bbox=[x, y, w, h], area=w * h, iscrowd=int(rng.random() < 0.1))
            annotations.append(box)
    categories = [dict(id=i, name=name) for i, name in zip(IDS, CLASSES, strict=True)]
    return dict(images=images, annotations=annotations, categories=categories)


def predict(coco: dict, seed: int = 1) -> list[dict]:
    """Jittered true boxes, some of them twice, missed or of another class, and boxes anywhere."""
    rng = np.random.default_rng(seed)
    samples = []
    for image in coco["images"]:
        truth = [a for a in coco["annotations"] if a["image_id"] == image["id"]]
        truth = [a for a in truth * 2 if rng.random() < 0.7]
        boxes = [np.array(a["bbox"]) + rng.normal(0, 0.06, 4) * np.tile(a["bbox"][2:], 2) for a in truth]
        labels = [IDS.index(a["category_id"]) for a in truth]
        boxes += [np.r_[rng.uniform(0, 300, 2), rng.uniform(5, 200, 2)] for _ in range(5)]
        labels += list(rng.integers(0, 3, 5))
        boxes = torch.tensor(np.array(boxes))
        boxes[:, 2:] += boxes[:, :2]
        scores = torch.tensor(rng.random(len(boxes))).round(decimals=2)  # some are equal
        found = dict(bboxes=boxes, labels=torch.tensor(labels), scores=scores)
        samples.append(dict(img_id=image["id"], ori_shape=(480, 640), pred_instances=found))
    return samples


@pytest.fixture
def score(tmp_path):
    """Scores predictions by a metric that reads ``coco`` from a file."""

    def score_(coco, samples, cls=CocoMetric, **kwargs) -> dict[str, float]:
        path = tmp_path / "val.json"
        path.write_text(json.dumps(coco))
        metric = cls(ann_file=str(path), **kwargs)
        metric.dataset_meta = dict(classes=CLASSES)
        metric.process({}, samples)
        return metric.evaluate(len(samples))

    return score_


def as_coco(coco: dict, samples: list[dict]) -> tuple[COCO, COCO]:
    """Truth and detections as the evaluations want them."""
    truth = COCO()
    truth.dataset = json.loads(json.dumps(coco))
    for number, annotation in enumerate(truth.dataset["annotations"], 1):
        annotation["id"] = number
    truth.createIndex()
    detections = [
        dict(image_id=s["img_id"], category_id=IDS[label], score=score)
        | dict(bbox=[x1, y1, x2 - x1, y2 - y1])
        for s in samples
        for (x1, y1, x2, y2), label, score in zip(
            *(s["pred_instances"][key].tolist() for key in ("bboxes", "labels", "scores")), strict=True
        )
    ]
    return truth, truth.loadRes(detections)


def twelve(cls: type, coco: dict, samples: list[dict], **params) -> tuple[np.ndarray, np.ndarray]:
    """The summary's numbers, and all precisions (ious, recalls, classes, areas, maxDets)."""
    run = cls(*as_coco(coco, samples), "bbox")
    for key, value in {"maxDets": [100, 300, 1000], **params}.items():
        setattr(run.params, key, value)
    run.evaluate()
    run.accumulate()
    run.summarize()
    return np.array(run.stats), np.array(run.eval["precision"])


@backends
@pytest.mark.parametrize("seed", range(3))
def test_the_twelve_numbers_are_those_of_pycocotools(backend, seed):
    coco = draw(seed=seed)
    samples = predict(coco, seed + 10)
    expected, precisions = twelve(COCOeval, coco, samples)
    found, curves = twelve(evaluations(backend)["COCOeval"], coco, samples, catIds=sorted(IDS))
    assert 0.2 < expected[0] < 0.9 and (expected >= 0).all()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    np.testing.assert_allclose(curves, precisions, rtol=0, atol=1e-12)


@needs_faster
@pytest.mark.parametrize(
    "options",
    [
        dict(classwise=True),
        dict(metric_items=["mAP_s", "AR@100", "AR_l@1000"], proposal_nums=(1, 100, 1000)),
        dict(iou_thrs=0.6),
        dict(metric=["bbox", "proposal"], iou_thrs=[0.5, 0.75]),
    ],
)
def test_options_give_the_same_with_both(score, options):
    coco = draw()
    found = [score(coco, predict(coco), backend=b, **options) for b in ("pycocotools", FASTER)]
    assert found[0] and str(found[0]) == str(found[1])


def test_default_is_mmdets_metric(score):
    coco = draw()
    coco["annotations"] = [dict(a, id=a["id"] + 1) for a in coco["annotations"]]
    options = dict(metric_items=["mAP", "mAP_50", "AR@1000"])
    expected = score(coco, predict(coco), MMDetMetric, **options)
    assert score(coco, predict(coco), **options) == expected


@backends
def test_class_scores_have_the_right_names(score, backend):
    coco = draw()
    samples = predict(coco)
    for sample in samples:  # nothing is found of the last class of the file
        found = sample["pred_instances"]
        found["scores"] = torch.where(found["labels"] == 2, 0.001, found["scores"])
        found["bboxes"][found["labels"] == 2] = torch.tensor([0.0, 0, 1, 1]).double()
    scores = score(coco, samples, backend=backend, classwise=True)
    assert scores["coco/cow_precision"] == 0
    assert min(scores["coco/cat_precision"], scores["coco/dog_precision"]) > 0.2


def perfect(num: int) -> tuple[dict, list[dict]]:
    """An image with ``num`` objects of one class, all of them found exactly."""
    annotation = dict(image_id=1, category_id=1, area=400, iscrowd=0)
    annotations = [dict(annotation, id=i, bbox=[i, 2 * i, 20, 20]) for i in range(num)]
    coco = dict(draw(2, 2), annotations=annotations)
    boxes = torch.tensor([[i, 2 * i, i + 20, 2 * i + 20] for i in range(num)]).double()
    found = dict(bboxes=boxes, labels=torch.zeros(num, dtype=int), scores=torch.linspace(1, 0, num))
    return coco, [dict(img_id=1, ori_shape=(480, 640), pred_instances=found)]


@backends
@pytest.mark.parametrize(
    ("proposal_nums", "expected"), [((100, 300, 1000), 1.0), ((10, 120, 150), 1.0), ((1, 10, 100), 0.663)]
)
def test_more_than_100_objects_in_an_image(score, backend, proposal_nums, expected):
    coco, samples = perfect(150)
    items = ["mAP", "mAP_50", "mAP_s", "AR@1000"]
    scores = score(coco, samples, backend=backend, proposal_nums=proposal_nums, metric_items=items)
    assert [scores[f"coco/bbox_{item}"] for item in items[:3]] == [expected] * 3
    assert scores["coco/bbox_AR@1000"] == round(min(150, proposal_nums[-1]) / 150, 3)


@backends
@pytest.mark.parametrize("key", ["annotations", "images", "categories"])
@pytest.mark.parametrize("new", ["{:05}".format, lambda i: i - 40, lambda i: i + 2**40])
def test_ids_of_all_kinds(score, backend, key, new):
    if backend == FASTER and key != "annotations" and isinstance(new(1), str):
        pytest.skip("faster-coco-eval takes integers: see below")
    coco, samples = draw(), predict(draw())
    expected = score(coco, samples, backend=backend, classwise=True)
    for entry in coco[key]:
        entry["id"] = new(entry["id"])
    field = {"images": "image_id", "categories": "category_id"}.get(key)
    for annotation in coco["annotations"] if field else ():
        annotation[field] = new(annotation[field])
    for sample in samples if key == "images" else ():
        sample["img_id"] = new(sample["img_id"])
    assert str(score(coco, samples, backend=backend, classwise=True)) == str(expected)


@needs_faster
@pytest.mark.parametrize("key", ["images", "categories"])
@pytest.mark.parametrize("new", ["7", 2**53])
def test_ids_that_the_faster_backend_does_not_take(score, key, new):
    coco = dict(draw(), annotations=[])
    for number, entry in enumerate(coco[key]):
        entry["id"] = new * (number + 1)
    with pytest.raises(InputError, match=f"val.json has the id {new!r}, .*pycocotools"):
        score(coco, [], backend=FASTER)


@backends
def test_nothing_predicted_or_nothing_to_find(score, backend):
    coco = draw()
    assert score(dict(coco, annotations=[]), predict(coco), backend=backend)["coco/bbox_mAP"] == -1
    nothing = dict(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=int))
    samples = [dict(s, pred_instances=dict(nothing, scores=torch.zeros(0))) for s in predict(coco)]
    assert score(coco, samples, backend=backend) == {}
    samples[3] = predict(coco)[3]
    assert 0 < score(coco, samples, backend=backend)["coco/bbox_mAP"] < 0.2


def test_results_are_written_with_the_ids_of_the_file(score, tmp_path):
    coco = draw()
    options = dict(format_only=True, outfile_prefix=str(tmp_path / "results"))
    assert score(coco, predict(coco), **options) == {}
    results = json.loads((tmp_path / "results.bbox.json").read_text())
    assert {result["category_id"] for result in results} == set(IDS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(backend="coco"), "backend is 'coco'"),
        (dict(proposal_nums=(100, 300)), r"proposal_nums is \(100, 300\)"),
        (dict(proposal_nums=(1000, 300, 100)), r"proposal_nums is \(1000, 300, 100\)"),
        (dict(format_only=True), "say where to with val_evaluator.outfile_prefix"),
        (dict(iou_thrs=[0.5], classwise=True), "iou_thrs has 1 thresholds"),
    ],
)
def test_options_that_cannot_be(score, options, message):
    with pytest.raises(InputError, match=message):
        score(draw(), [], **options)


def test_missing_package_is_named(score, monkeypatch):
    monkeypatch.setitem(sys.modules, FASTER, None)
    with pytest.raises(InputError, match="pip install --no-deps faster-coco-eval"):
        score(draw(), [], backend=FASTER)


@pytest.mark.parametrize("key", ["bboxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_nan_or_infinite_prediction_has_no_score(score, key, value):
    samples = predict(draw(2))
    samples[1] |= dict(img_path="val/2.png")
    samples[1]["pred_instances"][key][2] = value
    with pytest.raises(NonFiniteError, match="for image val/2.png: "):
        score(draw(2), samples)


def test_files_that_cannot_be_scored(score):
    coco = draw()
    with pytest.raises(InputError, match="val.json .* predicted: id 30"):
        score(dict(coco, images=coco["images"][:-1]), predict(coco))
    coco["annotations"][4]["bbox"][2] = float("nan")
    with pytest.raises(InputError, match="val.json: .* annotation 4;"):
        score(coco, predict(coco))
