"""The confusion matrix, the error analysis, and results without true boxes, through the tools."""

import csv
import json
import pickle
import runpy
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.reliable_runner.files.coco_file import CocoFile

REPO = Path(__file__).parents[2]
CONFIG = REPO / "tests" / "tiny_ddetr.py"
errors = runpy.run_path(str(REPO / "tools/analysis_tools/coco_error_analysis.py"))


def save_truth(data: Path, out: Path, shift: float) -> None:
    """Save the true boxes of the validation set as what tools/test.py --out would have found."""
    truth = CocoFile(str(data / "annotations" / "val.json"))
    order = {category: label for label, category in enumerate(sorted(truth.cats))}
    results = []
    for image_id, image in truth.imgs.items():
        anns = truth.imgToAnns[image_id]
        boxes = np.array([x["bbox"] for x in anns], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([order[x["category_id"]] for x in anns])
        found = dict(bboxes=boxes + shift, labels=labels, scores=np.full(len(anns), 0.9))
        results.append(dict(img_id=image_id, img_path=image["file_name"], pred_instances=found))
    out.write_bytes(pickle.dumps(results, protocol=2))


def test_confusion_matrix_of_the_truth_is_diagonal(data, tmp_path, tool, capsys):
    def matrix_of(shift: float) -> np.ndarray:
        save_truth(data, tmp_path / "results.pkl", shift)
        tool("analysis_tools/confusion_matrix", CONFIG, tmp_path / "results.pkl", tmp_path / "out")
        names, *rows = csv.reader((tmp_path / "out" / "confusion_matrix.csv").read_text().splitlines())
        assert names[1:] == [row[0] for row in rows]
        return np.array([row[1:] for row in rows], int)

    truth, matrix = CocoFile(str(data / "annotations" / "val.json")), matrix_of(shift=0)
    assert np.trace(matrix) == matrix.sum() == len(truth.anns)
    assert Image.open(tmp_path / "out" / "confusion_matrix.png").width > 300
    assert f"{len(truth.anns)} of {len(truth.anns)} objects" in capsys.readouterr().out
    missed = matrix_of(shift=1000)
    assert missed[:-1, -1].sum() == missed[-1].sum() == len(truth.anns)


def annotated(tmp_path: Path) -> CocoFile:
    boxes = [(1, [0, 0, 10, 10]), (1, [20, 0, 10, 10]), (2, [40, 0, 10, 10])]
    coco = dict(
        images=[dict(id=7, file_name="a.png", width=100, height=50)],
        categories=[dict(id=1, name="red"), dict(id=2, name="blue"), dict(id=3, name="none")],
        annotations=[
            dict(id=i, image_id=7, category_id=c, bbox=b, area=100, iscrowd=0)
            for i, (c, b) in enumerate(boxes)
        ],
    )
    (tmp_path / "truth.json").write_text(json.dumps(coco))
    truth = CocoFile(str(tmp_path / "truth.json"))
    truth.number_annotations()
    return truth


@pytest.mark.parametrize(
    ("boxes", "means"),  # C75, C50, Loc, Oth, BG; FN is 1
    [
        ([[0, 0, 10, 10], [20, 0, 10, 10]], (1, 1, 1, 1, 1)),
        ([[0, 0, 10, 10]], (51 / 101,) * 5),  # recalls up to a half
        ([[0, 0, 10, 6], [20, 0, 10, 6]], (0, 1, 1, 1, 1)),
        ([[0, 0, 10, 3], [20, 0, 10, 3]], (0, 0, 1, 1, 1)),
        # Blue is taken for red; and a detection is of the background.
        ([[40, 0, 10, 10], [0, 0, 10, 10], [20, 0, 10, 10]], (2 / 3, 2 / 3, 2 / 3, 1, 1)),
        ([[80, 30, 9, 9], [0, 0, 10, 10], [20, 0, 10, 10]], (2 / 3, 2 / 3, 2 / 3, 2 / 3, 1)),
        ([], (0,) * 5),
    ],
)
def test_each_kind_of_error_lowers_its_own_curve(boxes, means, tmp_path):
    found = [dict(image_id=7, category_id=1, bbox=box, score=0.9 - i / 10) for i, box in enumerate(boxes)]
    curves = errors["error_curves"](annotated(tmp_path), found, 1)
    np.testing.assert_allclose(curves.mean(1), (*means, 1), atol=1e-9)
    assert (errors["error_curves"](annotated(tmp_path), found, 3) == -1).all()


def test_error_analysis_draws_each_class(tmp_path, capsys):
    annotated(tmp_path)
    found = [dict(image_id=7, category_id=2, bbox=[40, 0, 10, 10], score=0.5)]
    (tmp_path / "found.json").write_text(json.dumps(found))
    options = ["--ann", str(tmp_path / "truth.json")]
    errors["main"]([str(tmp_path / "found.json"), str(tmp_path / "out"), *options])
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert files == ["00_all_classes.png", "01_red.png", "02_blue.png"]
    assert "blue                   1.000   1.000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "can't be read as JSON"),
        ("[]", "it holds no detections"),
        ('[{"image_id": 8, "category_id": 1, "bbox": [0, 0, 1, 1], "score": 1}]', "images 8 are not in"),
    ],
)
def test_error_analysis_names_a_faulty_file(text, message, tmp_path, one_line_error):
    annotated(tmp_path)
    (tmp_path / "found.json").write_text(text)
    args = tmp_path / "found.json", tmp_path / "out", "--ann", tmp_path / "truth.json"
    assert message in one_line_error(errors["main"], *args)


def test_a_folder_that_cannot_be_made_is_told_before_the_work(tmp_path, one_line_error):
    (tmp_path / "file").touch()
    args = CONFIG, tmp_path / "none.pkl", tmp_path / "file"
    assert f"{tmp_path}/file: the folder of the matrix can't be" in one_line_error(
        "analysis_tools/confusion_matrix", *args
    )
    args = tmp_path / "none.json", tmp_path / "file", "--ann", tmp_path / "none.json"
    assert f"{tmp_path}/file: the folder of the pictures can't be" in one_line_error(errors["main"], *args)


def test_submission_without_true_boxes(data, tmp_path, tool, checkpoint):
    """As for COCO's test-dev, whose file holds images and categories alone."""
    path = data / "annotations" / "val.json"
    coco = json.loads(path.read_text())
    del coco["annotations"]
    path.write_text(json.dumps(coco))
    options = {
        "test_evaluator.format_only": True,
        "test_evaluator.outfile_prefix": str(tmp_path / "submission"),
        "work_dir": str(tmp_path),
    }
    tool("test", CONFIG, checkpoint, **options)
    found = json.loads((tmp_path / "submission.bbox.json").read_text())
    assert {x["image_id"] for x in found} == {x["id"] for x in coco["images"]}
    assert set(found[0]) == {"image_id", "category_id", "bbox", "score"}
