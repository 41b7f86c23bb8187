"""Plot values of training logs against the epoch, and tell how long an iteration took.

python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/RUN/TIME/vis_data/scalars.json \\
    --keys bbox_mAP bbox_mAP_50 --out curve.png
python tools/analysis_tools/analyze_logs.py cal_train_time work_dirs/RUN/TIME/vis_data/scalars.json
"""

import json
import sys
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, pstdev

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import run_tool

Curve = list[tuple[float, float]]


def main(argv: list[str] | None = None) -> None:
    """Plot or print as ``argv`` (by default the command line) says."""
    parser = ArgumentParser(description="Analyse training logs.")
    tasks = parser.add_subparsers(dest="task", required=True)
    plot = tasks.add_parser("plot_curve", help="values against the epoch")
    plot.add_argument("json_logs", nargs="+", type=Path, help="vis_data/scalars.json of runs")
    plot.add_argument("--keys", nargs="+", default=["bbox_mAP"], help="which values to plot")
    plot.add_argument("--legend", nargs="+", help="a name for each curve, log by log, key by key")
    plot.add_argument("--title", help="title of the picture")
    plot.add_argument("--out", type=Path, default=Path("curve.png"), help="picture to write")
    time = tasks.add_parser("cal_train_time", help="seconds an iteration, by epoch")
    time.add_argument("json_logs", nargs="+", type=Path, help="vis_data/scalars.json of runs")
    time.add_argument(
        "--include-outliers", action="store_true", help="count the first value of each epoch too"
    )
    args = parser.parse_args(argv)
    dict(plot_curve=plot_logs, cal_train_time=print_train_times)[args.task](args)


def plot_logs(args: Namespace) -> None:
    """Plot the curves that ``args`` names.

    Raises:
        InputError: a log has no such values, or there are not as many names as curves.
    """
    curves = {}
    for path in args.json_logs:
        log = read_log(path)
        for key in args.keys:
            if key not in log:
                raise InputError(f"{path}: no value is called {key!r}; there are {', '.join(log)}")
            curves[f"{key} ({run_name(path)})" if len(args.json_logs) > 1 else key] = log[key]
    names = args.legend or list(curves)
    if len(names) != len(curves):
        raise InputError(f"--legend names {len(names)} curves, but there are {len(curves)}")
    plot_curves(dict(zip(names, curves.values(), strict=True)), args.title, args.out)
    print(f"saved {args.out}")


def run_name(path: Path) -> str:
    """The folder of a run, of which ``path`` is the ``vis_data/scalars.json``; else ``path`` itself."""
    return str(path.parents[1] if path.parent.name == "vis_data" else path)


def print_train_times(args: Namespace) -> None:
    """Print the mean time of an iteration, of the slowest and of the fastest epoch, for each log.

    Raises:
        InputError: a log has no times, or a single one an epoch, which is left out.
    """
    for path in args.json_logs:
        means = epoch_times(path, args.include_outliers)
        slowest, fastest = max(means, key=means.get), min(means, key=means.get)
        print(f"-----Analyze train time of {path}-----")
        print(f"slowest epoch {slowest}, average time is {means[slowest]:.4f} s/iter")
        print(f"fastest epoch {fastest}, average time is {means[fastest]:.4f} s/iter")
        print(f"time std over epochs is {pstdev(means.values()):.4f}")
        print(f"average iter time: {fmean(means.values()):.4f} s/iter\n")


def epoch_times(path: Path, include_outliers: bool) -> dict[int, float]:
    """Mean seconds an iteration of each epoch.

    The values are those in the log, each the mean over ``log_processor.window_size`` iterations.

    Args:
        path: ``vis_data/scalars.json``.
        include_outliers: whether the first value of an epoch counts, in which data workers start. A log that
            knows no epochs is one epoch.

    Raises:
        InputError: there is none.
    """
    times = defaultdict(list)
    for entry in read_entries(path):
        if "iter" in entry and "time" in entry:
            times[entry.get("epoch", 1)].append(entry["time"])
    if not times:
        raise InputError(f"{path}: it has no times of training iterations; is it the log of a test?")
    kept = {epoch: values if include_outliers else values[1:] for epoch, values in times.items()}
    if not any(kept.values()):
        raise InputError(
            f"{path}: it has one time an epoch, the first, which is left out; add --include-outliers, or "
            "train with a smaller default_hooks.logger.interval"
        )
    return {epoch: fmean(values) for epoch, values in kept.items() if values}


def read_log(path: Path) -> dict[str, Curve]:
    """Read a log that mmengine's visualizer has written.

    Args:
        path: ``vis_data/scalars.json``, one JSON object a line.

    Returns:
        For each value its (epoch, value) pairs; metrics of the test set without their ``coco/``, times those
        of training alone.

    Raises:
        InputError: the file is missing, or is no such log.
    """
    curves = defaultdict(list)
    for entry in read_entries(path):
        epoch = entry.get("epoch", entry["step"])
        for key, value in entry.items():
            of_test = key in ("time", "data_time") and "iter" not in entry
            if isinstance(value, (int, float)) and not of_test:
                curves[key.removeprefix("coco/")].append((epoch, value))
    return curves


def read_entries(path: Path) -> Iterator[dict]:
    """Yield the lines of a log.

    Raises:
        InputError: the file is missing, or is no such log.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such log")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InputError(f"{path}: line {number} is no JSON ({error})") from error
        if not isinstance(entry, dict) or "step" not in entry:
            raise InputError(f"{path}: line {number} is no entry of a vis_data/scalars.json, it has no step")
        yield entry


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
