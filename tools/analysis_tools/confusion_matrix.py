"""Draw which class is taken for which, from the predictions of a test.

python tools/test.py CONFIG CHECKPOINT --out results.pkl
python tools/analysis_tools/confusion_matrix.py CONFIG results.pkl work_dirs/mine/confusion
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
from matplotlib.figure import Figure
from mmengine.registry import DATASETS, init_default_scope

from projects.reliable_runner.files.disk_space import check_writable
from projects.reliable_runner.launcher import config_parser, parse_config, run_tool
from projects.reliable_runner.metric.confusion import confusion_matrix
from projects.reliable_runner.metric.saved_results import read_results, true_objects


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Draw the confusion matrix of a detector.")
    parser.add_argument("prediction_path", type=Path, help="what tools/test.py --out has written")
    parser.add_argument("save_dir", type=Path, help="folder for confusion_matrix.png and .csv")
    parser.add_argument("--score-thr", type=float, default=0.3, help="least score of a detection (0.3)")
    parser.add_argument("--tp-iou-thr", type=float, default=0.5, help="least IoU with its object (0.5)")
    args = parser.parse_args(argv)

    check_writable(args.save_dir, "folder of the matrix", "save_dir")
    results = read_results(args.prediction_path)
    cfg = parse_config(args)
    init_default_scope(cfg.get("default_scope"))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    classes = dataset.metainfo["classes"]
    truth = true_objects(dataset, results)
    matrix = confusion_matrix(results, truth, len(classes), args.score_thr, args.tp_iou_thr)

    names = [*classes, "background"]
    with open(args.save_dir / "confusion_matrix.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(["true class", *names])
        table.writerows([name, *row] for name, row in zip(names, matrix.tolist(), strict=True))
    draw(matrix, names, args.save_dir / "confusion_matrix.png")
    objects, right, missed = matrix[:-1].sum(), np.trace(matrix), matrix[:-1, -1].sum()
    print(f"{right} of {objects} objects found with their class, {missed} missed,")
    print(f"{objects - right - missed} of another class, {matrix[-1].sum()} detections of nothing")
    print(f"saved {args.save_dir / 'confusion_matrix.png'} and .csv")


def draw(matrix: np.ndarray, names: Sequence[str], out: Path) -> None:
    """Draw shares of each row in colour, with the counts where there is room for them."""
    many = len(names) > 25
    side = min(4 + 0.35 * len(names), 24)
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    ax = figure.add_subplot(xlabel="predicted class", ylabel="true class")
    shares = matrix / matrix.sum(1, keepdims=True).clip(min=1)
    picture = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(picture, label="share of the row")
    ax.set_xticks(range(len(names)), names, rotation=90, fontsize=6 if many else 9)
    ax.set_yticks(range(len(names)), names, fontsize=6 if many else 9)
    for (row, column), count in np.ndenumerate(matrix):
        if count and not many:
            colour = "white" if shares[row, column] > 0.5 else "black"
            ax.text(column, row, count, ha="center", va="center", fontsize=8, color=colour)
    figure.savefig(out, dpi=120)


if __name__ == "__main__":
    sys.exit(run_tool(main))
