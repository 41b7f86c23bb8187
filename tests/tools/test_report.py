"""The page of a run, through the tool: its numbers are those of tools/test.py and of pycocotools."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from projects.reliable_runner.log import quiet

REPO = Path(__file__).parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
CLASSES = ("circle", "square", "triangle")


@pytest.fixture
def run(data, tmp_path) -> Path:
    """A work_dir as a training leaves it, with detections around the true boxes in its results.pkl."""
    folder = tmp_path / "run" / "20260101_000000" / "vis_data"
    folder.mkdir(parents=True)
    Config.fromfile(CONFIG).dump(folder / "config.py")
    log = [dict(loss=3.0 - i, time=1.5, epoch=i, iter=4 * i, step=4 * i) for i in (1, 2)]
    log.append({"coco/bbox_mAP": 0.125, "step": 2})
    (folder / "scalars.json").write_text("\n".join(map(json.dumps, log)))
    save_results(data, tmp_path / "run" / "results.pkl")
    return tmp_path / "run"


def save_results(data: Path, out: Path) -> None:
    random, results = np.random.default_rng(0), []
    with quiet():
        truth = COCO(str(data / "annotations" / "val.json"))
    for image_id, image in truth.imgs.items():
        boxes = np.array([x["bbox"] for x in truth.imgToAnns[image_id]] * 2)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([x["category_id"] for x in truth.imgToAnns[image_id]] * 2)
        labels = (np.searchsorted(sorted(truth.cats), labels) + (random.random(len(boxes)) < 0.3)) % 3
        found = dict(
            bboxes=torch.tensor(boxes + random.normal(0, 2, boxes.shape), dtype=torch.float32),
            labels=torch.tensor(labels),
            scores=torch.tensor(random.random(len(boxes)), dtype=torch.float32),
        )
        path = str(data / "val" / image["file_name"])
        results.append(dict(img_id=image_id, img_path=path, pred_instances=found))
    out.write_bytes(pickle.dumps(results, protocol=2))


def rows(page: str, caption: str) -> dict[str, list[str]]:
    """The cells of a table by the names of its rows."""
    (body,) = re.findall(rf"<caption>{re.escape(caption)}</caption>.*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]
    return {name: rest for name, *rest in cells}


def expected_precision(data: Path, results: Path) -> dict[str, list[str]]:
    """AP, AP50, AP75, small, medium, large of pycocotools for each class by itself, and for all."""
    found = [
        dict(image_id=x["img_id"], category_id=label, bbox=[x1, y1, x2 - x1, y2 - y1], score=score)
        for x in pickle.loads(results.read_bytes())
        for (x1, y1, x2, y2), label, score in zip(
            *(x["pred_instances"][key].tolist() for key in ("bboxes", "labels", "scores")), strict=True
        )
    ]
    with quiet():
        truth = COCO(str(data / "annotations" / "val.json"))
        ids = [next(i for i, x in truth.cats.items() if x["name"] == name) for name in CLASSES]
        detections = truth.loadRes([x | dict(category_id=ids[x["category_id"]]) for x in found])
        expected, by_class = {}, {name: [i] for name, i in zip(CLASSES, ids, strict=True)}
        for name, chosen in ({"all classes": ids} | by_class).items():
            evaluation = COCOeval(truth, detections, "bbox")
            evaluation.params.catIds = chosen
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
            num = sum(not x["iscrowd"] for x in truth.anns.values() if x["category_id"] in chosen)
            values = ["–" if x < 0 else f"{x:.3f}" for x in evaluation.stats[:6]]
            expected[name] = [str(num), *values]
    return expected


def test_numbers_are_those_of_pycocotools(run, data, tool, capsys):
    tool("analysis_tools/report", run)
    page = (run / "report.html").read_text("utf-8")
    precision = rows(page, "By class and size")
    assert precision == expected_precision(data, run / "results.pkl")
    assert 0.1 < float(precision["all classes"][1]) < 0.9
    (ap50,) = re.findall(r"AP50, which is ([\d.]+) with", page)
    assert float(ap50) / 100 == pytest.approx(float(precision["all classes"][2]), abs=0.0006)

    (objects, right) = map(int, re.findall(r"Of (\d+) objects (\d+) are found", page)[0])
    matrix = rows(page, "Rows are true classes, columns predicted ones")
    counts = np.array([*matrix.values()], int)
    assert list(matrix) == [*CLASSES, "background"] and np.trace(counts) == right
    assert counts[:-1].sum() == objects == int(precision["all classes"][0])
    assert "saved" in capsys.readouterr().out


def test_errors_are_counted_and_listed(run, tool):
    tool("analysis_tools/report", run, "--score-thr", 0, "--out", run / "pages" / "all.html")
    page = (run / "pages" / "all.html").read_text("utf-8")
    counts = {kind: int(row[0]) for kind, row in rows(page, "Errors by kind").items()}
    assert len(counts) == 6 and counts["doubled"] > 0 and counts["wrong class"] > 0
    listed = re.findall(r"<caption>Errors in .*?<tbody>(.*?)</tbody>", page, re.DOTALL)
    kinds = re.findall(r'<th scope="row">(.*?)</th>', "".join(listed))
    assert {kind: kinds.count(kind) for kind in counts} == counts
    marks = {kind: page.count(f'<g class="box {kind.replace(" ", "-")}"><title>') for kind in counts}
    assert marks == counts
    assert "epoch 2: 0.125" in page and "max_per_img=10" in page


@pytest.mark.slow
def test_a_run_without_predictions_is_tested_as_test_py_does(tool, tmp_path, data, capsys):
    tool("train", CONFIG, "--work-dir", tmp_path / "run", **{"train_cfg.max_epochs": 1})
    tool("analysis_tools/report", tmp_path / "run")
    assert f"predictions: of {tmp_path / 'run' / 'epoch_1.pth'}" in capsys.readouterr().out
    out, metrics = tmp_path / "expected.pkl", tmp_path / "test"
    tool("test", CONFIG, tmp_path / "run" / "epoch_1.pth", "--out", out, "--work-dir", metrics)
    mine, expected = (pickle.loads(path.read_bytes()) for path in (tmp_path / "run" / "results.pkl", out))
    for one, other in zip(mine, expected, strict=True):
        assert one["img_id"] == other["img_id"]
        for key in ("bboxes", "scores", "labels"):
            torch.testing.assert_close(one["pred_instances"][key], other["pred_instances"][key])
    logged = json.loads(next(metrics.glob("*/*.json")).read_text())
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "1 epoch, " in page
    keys = ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
    values = [logged[f"coco/bbox_{key}"] for key in keys]
    shown = rows(page, "By class and size")["all classes"][1:]
    assert shown == ["–" if value < 0 else f"{value:.3f}" for value in values]
    folders = sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir())
    assert len(folders) == 1  # of the training; the test has left none


def described(page: Path) -> dict[str, str]:
    """What the page says of the run."""
    return dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", page.read_text("utf-8")))


def test_what_the_run_has_not_left_is_not_on_the_page(run, tool):
    tool("analysis_tools/report", run)
    facts = described(run / "report.html")
    assert facts["Model"] == "DeformableDETR with ResNet"
    assert facts["Trained for"] == "2 epochs, 8 iterations, 0 minutes"

    log, config = next(run.rglob("scalars.json")), config_of(run)
    log.write_text(re.sub(r'"(time|epoch)": [\d.]+, ', "", log.read_text()))
    cfg = Config.fromfile(config)
    cfg.pop("model")
    cfg.dump(config)
    tool("analysis_tools/report", run)
    facts = described(run / "report.html")
    assert facts["Model"] == "not in the config" and facts["Trained for"] == "8 iterations"
    assert "iteration 8: 1" in (run / "report.html").read_text("utf-8")  # the loss


def test_images_are_linked_to_where_attention_looked(run, tool, tmp_path):
    viewer = tmp_path / "a page.html"
    images = [dict(name="none.png"), dict(name="000002.png")]
    viewer.write_text(f'<script id="data" type="application/json">{json.dumps(dict(images=images))}</script>')
    tool("analysis_tools/report", run, "--viewer", viewer)
    links = re.findall(r'<strong>\d+\. (\S+)</strong>[^<]*<a href="(.*?)"', (run / "report.html").read_text())
    assert links == [("000002.png", "../a%20page.html#1")]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda run: run.rename(run.with_name("gone")), "run: there is no such folder"),
        (lambda run: next(run.rglob("scalars.json")).unlink(), "no training has logged in it"),
        (lambda run: (run / "results.pkl").write_bytes(b"\x80\x04junk"), "not a complete pickle"),
        (lambda run: (run / "results.pkl").write_bytes(pickle.dumps([1], 2)), "it holds no predictions"),
        (lambda run: spoil_results(run, labels=torch.tensor([7])), "label 7, but the test set has 3"),
        (lambda run: spoil_results(run, bboxes=None), "it holds no predictions"),
        (lambda run: (run / "results.pkl").unlink(), "it has no checkpoint; name one with --checkpoint"),
        (lambda run: config_of(run).write_text("model = dict(type='resnet50')"), "no test_dataloader"),
        (
            lambda run: config_of(run).open("a").write("\ntest_evaluator = dict(type='VOCMetric')"),
            "test_evaluator has no CocoMetric",
        ),
    ],
    ids=lambda value: "" if callable(value) else value,
)
def test_mistakes_are_one_line(spoil, message, run, one_line_error):
    spoil(run)
    assert message in one_line_error("analysis_tools/report", run)


def config_of(run: Path) -> Path:
    return next(run.rglob("config.py"))


def spoil_results(run: Path, **changes) -> None:
    results = pickle.loads((run / "results.pkl").read_bytes())
    found = results[0]["pred_instances"]
    for key, value in changes.items():
        found.pop(key)
        if value is not None:
            found.update({name: x[: len(value)] for name, x in found.items()}, **{key: value})
    (run / "results.pkl").write_bytes(pickle.dumps(results, protocol=2))


@pytest.mark.parametrize("text", [None, "", "<html></html>", '<script id="data" type="application/json">[1]'])
def test_what_is_no_viewer_is_one_line(text, run, tmp_path, one_line_error):
    if text is not None:
        (tmp_path / "page.html").write_text(text)
    error = one_line_error("analysis_tools/report", run, "--viewer", tmp_path / "page.html")
    assert "page.html: this is no page of visualize_attention.py --html" in error
