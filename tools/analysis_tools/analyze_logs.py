"""Plot values of training logs against the epoch.

python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/RUN/TIME/vis_data/scalars.json \\
    --keys bbox_mAP bbox_mAP_50 --out curve.png
"""

import json
import sys
from argparse import ArgumentParser
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from projects.deformable_detr.errors import InputError
from projects.deformable_detr.launcher import run_tool

Curve = list[tuple[float, float]]


def main(argv: list[str] | None = None) -> None:
    """Plot as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Plot values of training logs.")
    tasks = parser.add_subparsers(dest="task", required=True)
    plot = tasks.add_parser("plot_curve", help="values against the epoch")
    plot.add_argument("json_logs", nargs="+", type=Path, help="vis_data/scalars.json of runs")
    plot.add_argument("--keys", nargs="+", default=["bbox_mAP"], help="which values to plot")
    plot.add_argument("--legend", nargs="+", help="a name for each curve, log by log, key by key")
    plot.add_argument("--title", help="title of the picture")
    plot.add_argument("--out", type=Path, default=Path("curve.png"), help="picture to write")
    args = parser.parse_args(argv)

    curves = {}
    for path in args.json_logs:
        log = read_log(path)
        for key in args.keys:
            if key not in log:
                raise InputError(f"{path}: no value is called {key!r}; there are {', '.join(log)}")
            curves[f"{key} ({path.parts[-4]})" if len(args.json_logs) > 1 else key] = log[key]
    names = args.legend or list(curves)
    if len(names) != len(curves):
        raise InputError(f"--legend names {len(names)} curves, but there are {len(curves)}")
    plot_curves(dict(zip(names, curves.values(), strict=True)), args.title, args.out)
    print(f"saved {args.out}")


def read_log(path: Path) -> dict[str, Curve]:
    """Read a log that mmengine's visualizer has written.

    Args:
        path: ``vis_data/scalars.json``, one JSON object a line.

    Returns:
        For each value its (epoch, value) pairs; metrics of the test set without their ``coco/``.

    Raises:
        InputError: the file is missing, or is no such log.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such log")
    curves = defaultdict(list)
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number} is no JSON ({error})") from error
        epoch = entry["epoch"] if "epoch" in entry else entry["step"]
        for key, value in entry.items():
            if isinstance(value, (int, float)):
                curves[key.removeprefix("coco/")].append((epoch, value))
    return curves


def plot_curves(curves: dict[str, Curve], title: str | None, out: Path) -> None:
    """Draw curves over the epoch; values of one epoch are averaged."""
    figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
    for name, curve in curves.items():
        by_epoch = defaultdict(list)
        for epoch, value in curve:
            by_epoch[epoch].append(value)
        means = [sum(values) / len(values) for values in by_epoch.values()]
        ax.plot(list(by_epoch), means, marker="o", markersize=3, label=name)
    ax.set_xlabel("epoch")
    ax.grid(alpha=0.3)
    ax.legend()
    if title:
        ax.set_title(title)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(run_tool(main))
