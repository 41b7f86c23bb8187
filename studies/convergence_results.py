"""What a convergence study has measured: curves, a table, a picture."""

import csv
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from matplotlib.figure import Figure

from tools.analysis_tools.analyze_logs import read_log

BASELINES = ("detr_dc5", "detr", "two_stage")  # the first that a study has is what all are compared with
METRICS = {"AP": "bbox_mAP", "AP_S": "bbox_mAP_s"}


@dataclass
class Run:
    """One training.

    Attributes:
        row: name of the variant.
        seed: of weights, shuffling and augmentation.
        epochs: those after which it was validated, rising.
        curves: for each of `METRICS` its value after each of ``epochs``, in [0, 1].
        seconds_per_epoch: of training, validation apart, at the pace of the fastest line of the log: other
            work on the machine can only make it slower.
        memory_mb: the most that the GPU had allocated; without one, the largest resident set of the process.
    """

    row: str
    seed: int
    epochs: list[int]
    curves: dict[str, list[float]]
    seconds_per_epoch: float
    memory_mb: float


def read_run(row: str, seed: int, folder: Path, max_rss_mb: float) -> Run:
    """Read the logs of a run, of which there are several if it was interrupted."""
    by_epoch: dict[str, dict[float, float]] = {name: {} for name in METRICS}
    times, memory, iterations_per_epoch = [], [], 0.0
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        log = read_log(path)
        for name, key in METRICS.items():
            by_epoch[name].update(log.get(key, []))
        if "iter" in log:
            epoch, iteration = log["iter"][-1]
            iterations_per_epoch = iteration / epoch
        times += [seconds for _, seconds in log.get("time", [])]
        memory += [megabytes for _, megabytes in log.get("memory", [])]
    epochs = sorted(by_epoch["AP"])
    curves = {name: [values[epoch] for epoch in epochs] for name, values in by_epoch.items()}
    seconds_per_epoch = min(times) * iterations_per_epoch
    return Run(row, seed, epochs, curves, seconds_per_epoch, max(memory, default=max_rss_mb))


def summarise(runs: list[Run]) -> dict[str, dict[str, float | None]]:
    """One line of the table for each row, means over its seeds.

    Returns:
        By row: ``AP`` and ``AP_S`` after the last epoch, ``AP_spread`` (largest minus smallest of the seeds),
        ``epochs`` (the first after which the mean AP is at least the baseline's last; None if there is none,
        and where the baseline has learnt nothing, so that there is nothing to reach), ``epochs_to_half`` (the
        same with half of the best row's last AP as the goal), ``seconds_per_epoch``, ``memory_mb``.
    """
    curves = {row: mean_curve(of_row, "AP") for row, of_row in by_row(runs).items()}
    goal = curves[baseline(curves)][-1] if baseline(curves) else 0.0
    half_of_best = max(curve[-1] for curve in curves.values()) / 2
    table = {}
    for row, of_row in by_row(runs).items():
        final = [run.curves["AP"][-1] for run in of_row]
        curve = dict(zip(of_row[0].epochs, curves[row], strict=True))
        table[row] = dict(
            AP=curves[row][-1],
            AP_spread=max(final) - min(final),
            AP_S=mean_curve(of_row, "AP_S")[-1],
            epochs=epochs_to(goal, curve),
            epochs_to_half=epochs_to(half_of_best, curve),
            seconds_per_epoch=mean(run.seconds_per_epoch for run in of_row),
            memory_mb=max(run.memory_mb for run in of_row),
        )
    return table


def baseline(rows: Iterable[str]) -> str | None:
    """What the others are compared with; None if it is not among ``rows``."""
    return next((row for row in BASELINES if row in rows), None)


def epochs_to(goal: float, curve: dict[int, float]) -> int | None:
    """After which epoch ``curve`` is at least ``goal``; None for never, and for a goal of nothing."""
    return next((epoch for epoch, ap in curve.items() if ap >= goal > 0), None)


def by_row(runs: list[Run]) -> dict[str, list[Run]]:
    """The runs of each row, in the order of their first runs."""
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(run.row, []).append(run)
    return rows


def mean_curve(of_row: list[Run], metric: str) -> list[float]:
    """Mean over the seeds of a row, after each of its epochs."""
    return [mean(values) for values in zip(*(run.curves[metric] for run in of_row), strict=True)]


def write_results(out: Path, runs: list[Run]) -> None:
    """Write table, curves and picture, and print the table."""
    table = summarise(runs)
    results = dict(table=table, runs=[asdict(run) for run in runs])
    (out / "results.json").write_text(json.dumps(results, indent=1))
    with (out / "curves.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["row", "seed", "epoch", *METRICS])
        for run in runs:
            for values in zip(run.epochs, *run.curves.values(), strict=True):
                writer.writerow([run.row, run.seed, *values])
    text = markdown(table)
    (out / "table.md").write_text(text)
    plot(runs, out / "convergence.png")
    print(f"{text}\nsaved in {out}: convergence.png, table.md, results.json, curves.csv")


def markdown(table: dict[str, dict[str, float | None]]) -> str:
    """The table of `summarise` for people."""
    goal = (baseline(table) or "baseline").replace("_", " ")
    heads = ["row", f"epochs to AP of {goal}", "to half of the best", "AP", "spread", "AP_S", "s an epoch"]
    lines = [heads + ["memory, MB"], ["---"] * (len(heads) + 1)]
    for row, cells in table.items():
        epochs = [str(cells[key] or "–") for key in ("epochs", "epochs_to_half")]
        aps = [f"{cells[key]:.3f}" for key in ("AP", "AP_spread", "AP_S")]
        costs = [f"{cells['seconds_per_epoch']:.1f}", f"{cells['memory_mb']:.0f}"]
        lines.append([row.replace("_", " "), *epochs, *aps, *costs])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def plot(runs: list[Run], path: Path) -> None:
    """Draw each metric over the epoch: the mean of the seeds as a line, every seed in a pale one."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, len(METRICS), sharey=True)
    for ax, metric in zip(axes, METRICS, strict=True):
        for row, of_row in by_row(runs).items():
            (line,) = ax.plot(of_row[0].epochs, mean_curve(of_row, metric), label=row.replace("_", " "))
            for run in of_row:
                ax.plot(run.epochs, run.curves[metric], color=line.get_color(), alpha=0.3, linewidth=1)
        # One row may be trained ten times as long as the others.
        ax.set(xlabel="epoch", ylabel=metric, xscale="log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
    axes[0].legend()
    figure.savefig(path, dpi=120)
