"""Draw a sheet of test images with their detections and their true boxes.

python tools/test.py CONFIG CHECKPOINT --out results.pkl
python tools/draw_predictions.py CONFIG results.pkl sheet.png

Detections are solid lines, coloured by class; true boxes are dashed white lines.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from mmengine.dataset import BaseDataset
from mmengine.registry import init_default_scope

from projects.deformable_detr.registry import DATASETS
from projects.reliable_runner.data.image_arrays import as_shown
from projects.reliable_runner.data.image_loading import image_loader
from projects.reliable_runner.launcher import config_parser, parse_config, run_tool
from projects.reliable_runner.metric.saved_results import read_results, true_objects
from projects.reliable_runner.run_state import leaf_datasets


def main(argv: list[str] | None = None) -> None:
    parser = config_parser("Draw detections and true boxes of test images.")
    parser.add_argument("results", type=Path, help="what tools/test.py --out has written")
    parser.add_argument("out", type=Path, help="picture to write (.png, .jpg, .svg or .pdf)")
    parser.add_argument("--num", type=int, default=12, help="number of images, spread over the set")
    parser.add_argument("--score-thr", type=float, default=0.3, help="least score that is drawn")
    args = parser.parse_args(argv)

    results = read_results(args.results)
    cfg = parse_config(args)
    init_default_scope(cfg.get("default_scope"))
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    draw_sheet(dataset, results, args.out, args.num, args.score_thr)
    print(f"saved {args.out}")


def draw_sheet(
    dataset: BaseDataset, results: list[dict], out: Path, num_images: int, score_thr: float
) -> None:
    """Draw ``num_images`` images, spread over the test set, with detections of ``score_thr`` or more."""
    chosen = np.linspace(0, len(results) - 1, min(num_images, len(results))).round().astype(int)
    shown = [results[i] for i in chosen]
    truth = true_objects(dataset, shown)
    read_image = image_loader(next(leaf_datasets(dataset)))
    classes = dataset.metainfo["classes"]
    few = len(classes) <= 10
    colours = matplotlib.colormaps["tab10" if few else "hsv"].resampled(max(len(classes), 10))

    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.0 * rows), layout="constrained")
    for number, (result, objects) in enumerate(zip(shown, truth, strict=True), 1):
        ax = figure.add_subplot(rows, columns, number)
        ax.axis("off")
        image = as_shown(read_image(dict(img_path=result["img_path"]))["img"])
        ax.imshow(image[..., ::-1], interpolation="nearest")
        ax.set_title(Path(result["img_path"]).name, fontsize=8)
        for box in objects["boxes"].tolist():
            draw_box(ax, box, edgecolor="black", linewidth=2.2, linestyle=(0, (3, 2)))
            draw_box(ax, box, edgecolor="white", linewidth=1.2, linestyle=(0, (3, 2)))
        found = result["pred_instances"]
        kept = found["scores"] >= score_thr
        columns_of = (found[key][kept].tolist() for key in ("bboxes", "labels", "scores"))
        for box, label, score in zip(*columns_of, strict=True):
            corner = draw_box(ax, box, edgecolor=colours(label), linewidth=1.2)
            frame = dict(facecolor=colours(label), edgecolor="none", pad=0.6)
            ax.text(*corner, f"{score:.2f}", fontsize=5, color="white", va="bottom", bbox=frame)
    handles = [Line2D([], [], color=colours(c), lw=2, label=name) for c, name in enumerate(classes) if few]
    handles.append(Line2D([], [], color="0.6", lw=1, ls="--", label="true box (white)"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=8)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)


def draw_box(ax: Axes, box: list[float], **style) -> tuple[float, float]:
    """Outline a box, x1, y1, x2, y2 in pixels of the image; return its corner in matplotlib's units."""
    x1, y1, x2, y2 = box
    corner = x1 - 0.5, y1 - 0.5
    ax.add_patch(Rectangle(corner, x2 - x1, y2 - y1, fill=False, **style))
    return corner


if __name__ == "__main__":
    sys.exit(run_tool(main))
