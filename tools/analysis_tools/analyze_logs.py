"""Plot values of training logs against the epoch, and print how long an iteration took.

python tools/analysis_tools/analyze_logs.py plot_curve work_dirs/RUN/TIME/vis_data/scalars.json \\
    --keys bbox_mAP bbox_mAP_50 --out curve.png
python tools/analysis_tools/analyze_logs.py cal_train_time work_dirs/RUN/TIME/vis_data/scalars.json
"""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from statistics import fmean, median, pstdev

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from matplotlib.figure import Figure

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.launcher import run_tool
from projects.run_report.run_folder import by_epoch, read_log


def main(argv: list[str] | None = None) -> None:
    parser = ArgumentParser(description="Analyse training logs.")
    tasks = parser.add_subparsers(dest="task", required=True)
    plot = tasks.add_parser("plot_curve", help="values against the epoch")
    plot.add_argument("json_logs", nargs="+", type=Path, help="vis_data/scalars.json of runs")
    plot.add_argument("--keys", nargs="+", default=["bbox_mAP"], help="which values to plot")
    plot.add_argument("--legend", nargs="+", help="a name for each curve, log by log, key by key")
    plot.add_argument("--minutes", action="store_true", help="plot against minutes of training")
    plot.add_argument("--out", type=Path, default=Path("curve.png"), help="picture to write")
    time = tasks.add_parser("cal_train_time", help="seconds an iteration, by epoch")
    time.add_argument("json_logs", nargs="+", type=Path, help="vis_data/scalars.json of runs")
    time.add_argument("--include-outliers", action="store_true", help="count the first of each epoch too")
    args = parser.parse_args(argv)
    dict(plot_curve=plot_logs, cal_train_time=print_train_times)[args.task](args)


def plot_logs(args: Namespace) -> None:
    """Plot the curves that ``args`` names, the mean of the values of each epoch.

    Minutes are those of training alone, at the median pace of the log.
    """
    curves = {}
    for path in args.json_logs:
        log, run = read_log(path), path.parents[1] if path.parent.name == "vis_data" else path
        for key in args.keys:
            if key not in log:
                raise InputError(f"{path}: no value is called {key!r}; there are {', '.join(log)}")
            values = {epoch: fmean(of_epoch) for epoch, of_epoch in by_epoch(log[key]).items()}
            if args.minutes:
                values = {minutes_until(epoch, log): value for epoch, value in values.items()}
            curves[f"{key} ({run})" if len(args.json_logs) > 1 else key] = values
    names = args.legend or list(curves)
    if len(names) != len(curves):
        raise InputError(f"--legend names {len(names)} curves, but there are {len(curves)}")

    figure = Figure(figsize=(6.4, 4), layout="constrained")
    y_label = args.keys[0] if len(args.keys) == 1 else ""
    ax = figure.add_subplot(xlabel="minutes" if args.minutes else "epoch", ylabel=y_label)
    for name, curve in zip(names, curves.values(), strict=True):
        ax.plot(curve.keys(), curve.values(), marker="o", markersize=3, label=name)
    ax.grid(alpha=0.3)
    ax.legend()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.out, dpi=120)
    print(f"saved {args.out}")


def print_train_times(args: Namespace) -> None:
    """Print the mean time of an iteration, of the slowest and of the fastest epoch, for each log.

    The values are those in the log, each the mean over ``log_processor.window_size`` iterations. The first of
    an epoch, in which data workers start, counts with ``--include-outliers`` alone.
    """
    for path in args.json_logs:
        log = read_log(path)
        # A training that counts iterations alone is one epoch.
        times = by_epoch([(epoch if "epoch" in log else 1, time) for epoch, time in log["time"]])
        first = 0 if args.include_outliers else 1
        means = {epoch: fmean(values[first:]) for epoch, values in times.items() if values[first:]}
        if not means:
            raise InputError(
                f"{path}: it has no times of training iterations beyond the first of each epoch; add "
                "--include-outliers, or train with a smaller default_hooks.logger.interval"
            )
        slowest, fastest = max(means, key=means.get), min(means, key=means.get)
        print(f"-----Analyze train time of {path}-----")
        print(f"slowest epoch {slowest}, average time is {means[slowest]:.4f} s/iter")
        print(f"fastest epoch {fastest}, average time is {means[fastest]:.4f} s/iter")
        print(f"time std over epochs is {pstdev(means.values()):.4f}")
        print(f"average iter time: {fmean(means.values()):.4f} s/iter\n")


def minutes_until(epoch: float, log: dict[str, list[tuple[float, float]]]) -> float:
    """How long the training of ``log`` took until the end of ``epoch``."""
    last_epoch, iterations = log["iter"][-1]
    return epoch * iterations / last_epoch * median(seconds for _, seconds in log["time"]) / 60


if __name__ == "__main__":
    sys.exit(run_tool(main))
