"""The numbers of a study: curves of each run, one CSV file a run, and a table of them."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from statistics import mean

from projects.reliable_runner.errors import InputError
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
            ``even encoder 0`` if it were even, before training, too; ``instability`` of matching, a share
            of objects. After the last epoch ``seconds_per_epoch`` of training, validation apart, at the pace
            of the fastest line of the log, as other work on the machine can only make it slower, and
            ``memory_mb``, the most that the GPU had allocated, without one the largest resident set.
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


def read_run(path: Path) -> Run:
    """What `write_run` has written; `InputError` if a line is none of it or some are missing."""
    row, _, seed = path.stem.rpartition("_seed")
    curves: dict[str, dict[int, float]] = {}
    with path.open(newline="") as file:
        for number, line in enumerate(csv.reader(file), 1):
            try:
                name, epoch, value = line
                if number > 1:
                    curves.setdefault(name, {})[int(epoch)] = float(value)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: {line} is no name, epoch and value") from error
    if missing := {"AP", "AP_S", "seconds_per_epoch", "memory_mb"} - curves.keys():
        raise InputError(f"{path} has no {', '.join(sorted(missing))}: remove it, and its run is told anew")
    if not all(isfinite(value) for curve in curves.values() for value in curve.values()):
        raise InputError(f"{path} holds NaN or infinity")
    return Run(row, int(seed), {name: dict(sorted(curve.items())) for name, curve in curves.items()})


def read_study(results: Path, rows: Iterable[str]) -> list[Run]:
    """All runs of some rows whose numbers are in a folder, row by row."""
    return [read_run(path) for row in rows for path in sorted(results.glob(f"{row}_seed*.csv"))]


def summarise(runs: list[Run]) -> dict[str, dict]:
    """One line of the table for each row, means over its seeds.

    Returns:
        By row: ``seeds``, their number; ``AP`` and ``AP_S`` after the last epoch, ``AP_spread`` (largest
        minus smallest of the seeds, None of one); ``epochs``, after which the mean AP is the baseline's
        last (`epochs_to`); ``factors``, for each seed that the baseline has too (`factor`);
        ``seconds_per_epoch``, of the fastest seed, as slower machines and other work say nothing of the
        row; ``memory_mb``, of the largest.
    """
    rows = by_row(runs)
    base = rows.get(baseline(rows), [])
    goal = mean(run.last("AP") for run in base) if base else 0.0
    table = {}
    for row, of_row in rows.items():
        final = [run.last("AP") for run in of_row]
        table[row] = dict(
            seeds=len(of_row),
            AP=mean(final),
            AP_spread=max(final) - min(final) if len(final) > 1 else None,
            AP_S=mean(run.last("AP_S") for run in of_row),
            epochs=epochs_to(goal, mean_curve(of_row, "AP")),
            factors=[factor(run, other) for run in of_row for other in base if other.seed == run.seed],
            seconds_per_epoch=seconds_per_epoch(of_row),
            memory_mb=max(run.last("memory_mb") for run in of_row),
        )
    return table


def factor(run: Run, base: Run) -> float | None:
    """How many times fewer epochs ``run`` needs to the last AP of ``base``; None if it never has that."""
    return times_fewer(base.last("AP"), run.curves["AP"], base.curves["AP"])


def times_fewer(goal: float, curve: dict[int, float], base: dict[int, float]) -> float | None:
    """How many times fewer epochs one curve needs to ``goal`` than another; None if either has it never."""
    own, others = epochs_to(goal, curve), epochs_to(goal, base)
    return others / own if own and others else None


def baseline(rows: Iterable[str]) -> str | None:
    """What the others are compared with; None if it is not among ``rows``."""
    return next((row for row in BASELINES if row in rows), None)


def epochs_to(goal: float, curve: dict[int, float]) -> float | None:
    """When ``curve``, straight between validations and 0 before training, is first at ``goal``.

    None for never, and for a goal of 0.
    """
    for (before, low), (epoch, ap) in pairwise([(0, 0.0), *curve.items()]):
        if ap >= goal > 0:
            return before + (epoch - before) * (goal - low) / (ap - low)
    return None


def seconds_per_epoch(of_row: list[Run]) -> float:
    return min(run.last("seconds_per_epoch") for run in of_row)


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


def markdown(table: dict[str, dict]) -> str:
    base = baseline(table)
    to_goal = [f"epochs to AP of {base.replace('_', ' ')}", "times fewer, by seed", "hours"] if base else []
    lines = [["row", "seeds", *to_goal, "AP", "spread", "AP_S", "s an epoch", "memory, MB"]]
    for row, cells in table.items():
        seconds, epochs = cells["seconds_per_epoch"], cells["epochs"]
        if base:
            factors = ", ".join("–" if value is None else f"{value:.1f}" for value in cells["factors"])
            hours = f"{epochs * seconds / 3600:.2f}" if epochs else "–"
            to_goal = [f"{epochs:.1f}" if epochs else "–", factors or "–", hours]
        aps = ["–" if cells[key] is None else f"{cells[key]:.3f}" for key in ("AP", "AP_spread", "AP_S")]
        cost = [f"{seconds:.1f}", f"{cells['memory_mb']:.0f}"]
        lines.append([row.replace("_", " "), str(cells["seeds"]), *to_goal, *aps, *cost])
    return table_lines(lines)


def table_lines(lines: list[list[str]]) -> str:
    """Cells as a table in Markdown, the first line its head."""
    head, *rest = lines
    return "".join(f"| {' | '.join(line)} |\n" for line in (head, ["---"] * len(head), *rest))
