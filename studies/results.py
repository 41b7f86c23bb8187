"""The numbers of a study: curves of each run, one CSV file a run, and a table of them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from studies.observe import instability, read_matches
from studies.table import write_rows
from tools.analysis_tools.analyze_logs import read_log

BASELINES = ("detr_dc5", "detr", "two_stage")  # the first that a study has is what all are compared with


@dataclass
class Run:
    """One training.

    Attributes:
        row: name of the variant.
        seed: of weights, shuffling and augmentation.
        curves: by name and epoch a value. After each validation ``AP``, ``AP_S`` and so on in [0, 1], -1
            where there is no such object; ``negative_entropy encoder 0`` of a layer in nats, and
            ``even encoder 0`` if it were even; ``instability`` of matching, a share of objects. After the
            last epoch ``seconds_per_epoch`` of training, validation apart, at the pace of the fastest line
            of the log, as other work on the machine can only make it slower, and ``memory_mb``, the most
            that the GPU had allocated, without one the largest resident set of the process.
    """

    row: str
    seed: int
    curves: dict[str, dict[int, float]]

    @property
    def epochs(self) -> list[int]:
        """Those after which it was validated, rising."""
        return list(self.curves["AP"])

    def last(self, name: str) -> float:
        return list(self.curves[name].values())[-1]


def collect(row: str, seed: int, folder: Path, max_rss_mb: float) -> Run:
    """Read what a training has written; it has several logs if it was interrupted."""
    curves: dict[str, dict[int, float]] = {}
    times, memory, iterations_per_epoch = [], [], 0.0
    for path in sorted(folder.glob("*/vis_data/scalars.json")):
        log = read_log(path)
        for name in (name for name in log if name.startswith("bbox_mAP")):
            of_log = {int(epoch): value for epoch, value in log[name]}
            curves.setdefault(name.removeprefix("bbox_m").upper(), {}).update(of_log)
        if "iter" in log:
            epoch, iteration = log["iter"][-1]
            iterations_per_epoch = iteration / epoch
        times += [seconds for _, seconds in log.get("time", [])]
        memory += [megabytes for _, megabytes in log.get("memory", [])]
    with (folder / "attention.csv").open(newline="") as file:
        for line in csv.DictReader(file):
            for name in ("negative_entropy", "even"):
                curve = curves.setdefault(f"{name} {line['stage']} {line['layer']}", {})
                curve[int(line["epoch"])] = float(line[name])
    curves["instability"] = instability(read_matches(folder / "matches.csv"))
    last = max(curves["AP"])
    curves["seconds_per_epoch"] = {last: min(times) * iterations_per_epoch}
    curves["memory_mb"] = {last: max(memory, default=max_rss_mb)}
    return Run(row, seed, curves)


def run_path(results: Path, row: str, seed: int) -> Path:
    return results / f"{row}_seed{seed}.csv"


def write_run(results: Path, run: Run) -> None:
    rows = [
        dict(name=name, epoch=epoch, value=f"{value:.6g}")
        for name, curve in run.curves.items()
        for epoch, value in curve.items()
    ]
    write_rows(run_path(results, run.row, run.seed), rows)


def read_run(results: Path, row: str, seed: int) -> Run:
    curves: dict[str, dict[int, float]] = {}
    with run_path(results, row, seed).open(newline="") as file:
        for line in csv.DictReader(file):
            curves.setdefault(line["name"], {})[int(line["epoch"])] = float(line["value"])
    return Run(row, seed, curves)


def summarise(runs: list[Run]) -> dict[str, dict[str, float | None]]:
    """One line of the table for each row, means over its seeds.

    Returns:
        By row: ``AP`` and ``AP_S`` after the last epoch, ``AP_spread`` (largest minus smallest of the
        seeds), ``epochs`` (the first after which the mean AP is at least the baseline's last; None if there
        is none, and where the baseline has learnt nothing, so that there is nothing to reach), ``factors``
        (`factor` for each seed that the baseline has too), ``seconds_per_epoch``, ``memory_mb``.
    """
    rows = by_row(runs)
    base = rows.get(baseline(rows), [])
    goal = mean(run.last("AP") for run in base) if base else 0.0
    table = {}
    for row, of_row in rows.items():
        final = [run.last("AP") for run in of_row]
        table[row] = dict(
            AP=mean(final),
            AP_spread=max(final) - min(final),
            AP_S=mean(run.last("AP_S") for run in of_row),
            epochs=epochs_to(goal, mean_curve(of_row, "AP")),
            factors=[factor(run, other) for run in of_row for other in base if other.seed == run.seed],
            seconds_per_epoch=mean(run.last("seconds_per_epoch") for run in of_row),
            memory_mb=max(run.last("memory_mb") for run in of_row),
        )
    return table


def factor(run: Run, base: Run) -> float | None:
    """How many times fewer epochs ``run`` needs to the last AP of ``base``; None if it never has that."""
    goal = base.last("AP")
    own, bases = epochs_to(goal, run.curves["AP"]), epochs_to(goal, base.curves["AP"])
    return bases / own if own else None


def baseline(rows: Iterable[str]) -> str | None:
    """What the others are compared with; None if it is not among ``rows``."""
    return next((row for row in BASELINES if row in rows), None)


def epochs_to(goal: float, curve: dict[int, float]) -> int | None:
    """After which epoch ``curve`` is at least ``goal``; None for never, and for a goal of nothing."""
    return next((epoch for epoch, ap in curve.items() if ap >= goal > 0), None)


def by_row(runs: list[Run], chosen: Sequence[str] = ()) -> dict[str, list[Run]]:
    """The runs of each row, in the order of their first runs; of those ``chosen``, if there is any."""
    rows: dict[str, list[Run]] = {}
    for run in runs:
        rows.setdefault(run.row, []).append(run)
    return {row: rows[row] for row in rows if row in chosen} or rows


def mean_curve(of_row: list[Run], name: str) -> dict[int, float]:
    """Mean over the seeds of a row, by epoch."""
    epochs = of_row[0].curves.get(name, {})
    return {epoch: mean(run.curves[name][epoch] for run in of_row) for epoch in epochs}


def markdown(table: dict[str, dict[str, float | None]]) -> str:
    base = baseline(table)
    to_goal = [f"epochs to AP of {base.replace('_', ' ')}", "times fewer, by seed", "hours"] if base else []
    lines = [["row", *to_goal, "AP", "spread", "AP_S", "s an epoch", "memory, MB"]]
    lines.append(["---"] * len(lines[0]))
    for row, cells in table.items():
        seconds, epochs = cells["seconds_per_epoch"], cells["epochs"]
        if base:
            factors = ", ".join("–" if value is None else f"{value:.1f}" for value in cells["factors"])
            hours = f"{epochs * seconds / 3600:.2f}" if epochs else "–"
            to_goal = [str(epochs or "–"), factors or "–", hours]
        aps = [f"{cells[key]:.3f}" for key in ("AP", "AP_spread", "AP_S")]
        lines.append([row.replace("_", " "), *to_goal, *aps, f"{seconds:.1f}", f"{cells['memory_mb']:.0f}"])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
