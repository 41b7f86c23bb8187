"""Draw precision against recall of each class, and what the precision lacks.

python tools/test.py CONFIG CHECKPOINT --cfg-options test_evaluator.outfile_prefix=work_dirs/mine/test
python tools/analysis_tools/coco_error_analysis.py work_dirs/mine/test.bbox.json work_dirs/mine/errors \\
    --ann data/coco/annotations/instances_val2017.json

The predictions.json of tools/infer.py --ann-file serves as well. The curves, after the analysis of the COCO
challenge: C75 and C50 at IoU 0.75 and 0.5; Loc at 0.1, as if boxes were well placed; Oth, without detections
that lie on an object of another class; BG, without any false detection; FN, if all were found.
"""

import json
import sys
from argparse import ArgumentParser
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from matplotlib.figure import Figure
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from pycocotools.mask import iou

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import CocoFile, shorten
from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.launcher import run_tool
from projects.reliable_runner.log import quiet
from projects.reliable_runner.progress import progress

CURVES = ("C75", "C50", "Loc", "Oth", "BG", "FN")
LEAST_IOU = 0.1  # of a detection that is badly placed, or of another class, and not of nothing


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Draw precision-recall curves and what the precision lacks.")
    parser.add_argument("result", type=Path, help="detections: .bbox.json of a test, or predictions.json")
    parser.add_argument("out_dir", type=Path, help="folder for a picture a class, and one of all")
    parser.add_argument("--ann", type=Path, required=True, help="COCO file of the true boxes")
    args = parser.parse_args(argv)

    check_writable(args.out_dir, "folder of the pictures", "out_dir")
    with quiet():
        truth = CocoFile(str(args.ann))
    truth.number_annotations()
    found = read_detections(args.result, truth)
    curves = {}
    with progress(len(truth.cats), "class") as bar:
        for category in truth.cats.values():
            curve = error_curves(truth, found, category["id"])
            if (curve[0] > -1).any():  # a class without objects has none
                curves[category["name"]] = curve
            bar.update()
    if not curves:
        raise InputError(f"{args.ann}: it has no objects that could be found")
    print(f"{'class':<20}" + "".join(f"{name:>8}" for name in CURVES))
    curves = {"all classes": np.mean(list(curves.values()), 0), **curves}
    for number, (name, curve) in enumerate(curves.items()):
        print(f"{name:<20}" + "".join(f"{value:8.3f}" for value in curve.mean(1)))
        file_name = "".join(x if x.isalnum() else "_" for x in name)
        draw(name, curve, args.out_dir / f"{number:02d}_{file_name}.png")
    print(f"saved {len(curves)} pictures in {args.out_dir}")


def read_detections(path: Path, truth: CocoFile) -> list[dict]:
    """The detections of a file; `InputError` if it holds none, or of other images than ``truth``."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: can't be read as JSON ({error})") from error
    found = found.get("annotations") if isinstance(found, dict) else found
    keys = {"image_id", "category_id", "bbox", "score"}
    if not found or not all(isinstance(x, dict) and keys <= x.keys() for x in found):
        raise InputError(f"{path}: it holds no detections (image_id, category_id, bbox and score)")
    if strange := sorted({str(x["image_id"]) for x in found if x["image_id"] not in truth.imgs}):
        raise InputError(f"{path}: images {shorten(strange)} are not in the file of the true boxes")
    return found


def error_curves(truth: CocoFile, found: list[dict], category_id: int) -> np.ndarray:
    """Precision of a class at 101 recalls, as it is and without one kind of error after the other.

    ``found`` are detections of all classes. Returns (6, 101), in the order of `CURVES`, rising from row to
    row; -1 if there is no object of the class.
    """
    found = [x for x in found if x["category_id"] == category_id]
    evaluation = evaluate(truth, found, category_id, [0.75, 0.5, LEAST_IOU])
    c75, c50, loc = evaluation.eval["precision"][:, :, 0, 0, -1]
    if (loc == -1).all():
        return np.full((len(CURVES), len(loc)), -1.0)
    others = {
        image_id: [x["bbox"] for x in truth.imgToAnns[image_id] if x["category_id"] != category_id]
        for image_id in truth.imgs
    }
    placed = {  # matched at the least overlap, or on a crowd
        number
        for image in filter(None, evaluation.evalImgs)
        for number, match, on_crowd in zip(
            image["dtIds"], image["dtMatches"][-1], image["dtIgnore"][-1], strict=True
        )
        if match or on_crowd
    }

    def confused(number: int, detection: dict) -> bool:
        boxes = others[detection["image_id"]]
        if number in placed or not boxes:
            return False
        return iou([detection["bbox"]], boxes, [0] * len(boxes)).max() >= LEAST_IOU

    rest = [x for number, x in enumerate(found, 1) if not confused(number, x)]  # loadRes counts from 1
    oth = evaluate(truth, rest, category_id, [LEAST_IOU]).eval["precision"][0, :, 0, 0, -1]
    return np.stack([c75, c50, loc, oth, (oth > 0).astype(float), np.ones_like(oth)])


def evaluate(truth: CocoFile, found: list[dict], category_id: int, iou_thrs: list[float]) -> COCOeval:
    """pycocotools' evaluation of one class over all sizes, with 100 detections an image."""
    with quiet():
        detections = truth.loadRes([dict(x) for x in found]) if found else COCO()
        evaluation = COCOeval(truth, detections, "bbox")
        evaluation.params.catIds = [category_id]
        evaluation.params.iouThrs = np.array(iou_thrs)
        evaluation.params.areaRng, evaluation.params.areaRngLbl = evaluation.params.areaRng[:1], ["all"]
        evaluation.params.maxDets = [100]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def draw(title: str, curves: np.ndarray, out: Path) -> None:
    """Draw the six curves of a class; the area between two is what one kind of error costs."""
    figure = Figure(figsize=(5.6, 4.4), layout="constrained")
    ax = figure.add_subplot(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    colours = ("white", "#9ecae1", "#fdae6b", "#c7b3e5", "#e08214", "#bdbdbd")
    recall, below = np.linspace(0, 1, curves.shape[1]), np.zeros(curves.shape[1])
    for name, curve, colour in zip(CURVES, curves, colours, strict=True):
        ax.fill_between(recall, below, curve, color=colour, label=f"{name} {curve.mean():.3f}")
        ax.plot(recall, curve, color="black", linewidth=0.6)
        below = curve
    ax.legend(loc="lower left", fontsize="small")
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    sys.exit(run_tool(main))
