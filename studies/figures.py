"""Tables and pictures of the numbers of a study."""

from pathlib import Path
from statistics import mean

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullLocator

from studies.results import (
    Run,
    baseline,
    by_row,
    markdown,
    mean_curve,
    seconds_per_epoch,
    summarise,
    table_lines,
    times_fewer,
)
from studies.rows import FIGURE_3, with_other_rates

EXPLAINED = ("detr", "detr_dc5", "single_scale", "multi_scale", "encoder_only")
SIZED = ("detr", "detr_dc5", "single_scale", "multi_scale")
ENTROPY = "entropy of attention in the {}, share of the largest"
LINES = {
    "AP": dict(color="black", label="AP"),
    "encoder": dict(color="tab:blue", marker=".", label=ENTROPY.format("encoder")),
    "decoder": dict(color="tab:orange", marker=".", label=ENTROPY.format("decoder")),
    "instability": dict(
        color="tab:red", linestyle="--", label="objects with another query than at the validation before"
    ),
}
ABLATIONS = {
    "sampling points": {"1": "1_point", "2": "2_points", "4": "multi_scale", "8": "8_points"},
    "levels": {"C5": "1_level", "C4, C5": "2_levels", "C3 to C5": "3_levels", "C3 to C6": "multi_scale"},
    "heads": {"1": "1_head", "2": "2_heads", "4": "4_heads", "8": "multi_scale"},
    "encoder's attention": {"on all levels": "multi_scale", "levelwise": "levelwise"},
}


def write_results(out: Path, study: str, runs: list[Run]) -> None:
    text = table(study, runs)
    (out / f"{study}.md").write_text(text)
    pictures = {}
    if study == "figure_3":
        pictures = dict(figure_3=convergence(runs), explanation=explanation(runs), sizes=sizes(runs))
    elif study == "table_2":
        pictures = dict(table_2=ablations(runs))
    for name, figure in pictures.items():
        figure.savefig(out / f"{name}.png", dpi=110)
    print(f"{text}\nsaved in {out}: {', '.join([f'{study}.md', *(f'{name}.png' for name in pictures)])}")


def table(study: str, runs: list[Run]) -> str:
    return search(runs) if study == "search" else markdown(summarise(runs))


def draw_band(ax: Axes, of_row: list[Run], name: str, **style) -> None:
    """The mean of the seeds as a line, from the lowest to the highest in pale."""
    curve = mean_curve(of_row, name)
    (line,) = ax.plot(list(curve), list(curve.values()), **style)
    fill(ax, list(curve), [[run.curves[name][epoch] for run in of_row] for epoch in curve], line)


def fill(ax: Axes, places: list[float], values: list[list[float]], line: Line2D) -> None:
    """From the lowest to the highest of the values at each place."""
    least, most = ([end(at) for at in values] for end in (min, max))
    ax.fill_between(places, least, most, color=line.get_color(), alpha=0.2)


def convergence(runs: list[Run]) -> Figure:
    """AP and AP_S against epochs, and with a baseline how many times fewer epochs than it each row needs."""
    rows = by_row(runs)
    base = baseline(rows)
    figure = Figure(figsize=(14 if base else 10, 4.5), layout="constrained")
    axes = figure.subplots(1, 3 if base else 2)
    styles = {row: dict(color=f"C{i % 10}", linestyle="-:"[i >= 10]) for i, row in enumerate(rows)}
    for ax, name in zip(axes, ("AP", "AP_S"), strict=False):  # the third panel below
        for row, of_row in rows.items():
            draw_band(ax, of_row, name, label=f"{words(row)} ({len(of_row)})", **styles[row])
        if base:
            goal = mean(run.last(name) for run in rows[base])
            ax.axhline(goal, color="grey", linestyle="--", linewidth=1, label=f"{words(base)} at last")
        # One row may be trained ten times as long as the others.
        ax.set(xlabel="epoch", ylabel=name, xscale="log")
        ax.xaxis.set_major_formatter("{x:g}")
        ax.grid(alpha=0.3)
    axes[1].sharey(axes[0])
    if base:
        draw_factors(axes[2], rows, base, styles)
    title = dict(title="row (seeds)", title_fontsize="small")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside right upper", fontsize="small", **title)
    return figure


def draw_factors(ax: Axes, rows: dict[str, list[Run]], base: str, styles: dict[str, dict]) -> None:
    """How many times fewer epochs than the baseline each row needs to an AP, by that AP.

    Of the mean curves as a line; in pale from the lowest to the highest seed, where all reach that AP.
    """
    means = {row: mean_curve(of_row, "AP") for row, of_row in rows.items()}
    bases = {run.seed: run.curves["AP"] for run in rows[base]}
    goals = [max(means[base].values()) * step / 50 for step in range(5, 51)]
    for row, of_row in rows.items():
        factors = [times_fewer(goal, means[row], means[base]) for goal in goals]
        factors = [float("nan") if factor is None else factor for factor in factors]
        (line,) = ax.plot(goals, factors, **styles[row])
        pairs = [(run.curves["AP"], bases[run.seed]) for run in of_row if run.seed in bases]
        by_seed = {goal: [times_fewer(goal, *pair) for pair in pairs] for goal in goals}
        reached = {goal: of_seeds for goal, of_seeds in by_seed.items() if of_seeds and None not in of_seeds}
        if reached:  # an empty band would leave the logarithmic axis without limits
            fill(ax, list(reached), list(reached.values()), line)
    ax.set(xlabel="AP to reach", ylabel=f"times fewer epochs than {words(base)}", yscale="log")
    ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.yaxis.set_major_formatter("{x:g}")
    ax.yaxis.set_minor_locator(NullLocator())
    ax.grid(alpha=0.3)


def explanation(runs: list[Run]) -> Figure:
    """AP, how evenly attention is spread, and instability of matching, on one axis for each row."""
    rows = by_row(runs, EXPLAINED)
    columns = min(3, len(rows))
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.2 * lines + 0.8), layout="constrained")
    axes = figure.subplots(lines, columns, sharey=True, squeeze=False).flatten()
    for ax in axes[len(rows) :]:
        ax.remove()
    for ax, (row, of_row) in zip(axes, rows.items(), strict=False):  # the last line may not be full
        spread = [Run(run.row, run.seed, run.curves | evenness(run)) for run in of_row]
        for name, style in LINES.items():
            if name in spread[0].curves:
                draw_band(ax, spread, name, **style)
        interval = of_row[0].epochs[0]
        every = f"every {interval} epochs" if interval > 1 else "every epoch"
        ax.set(title=f"{words(row)}, seen {every}", xlabel="epoch", ylim=(0, 1.02))
        ax.set_ylabel("AP, or a share")
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize="small")
    return figure


def evenness(run: Run) -> dict[str, dict[int, float]]:
    """By stage and epoch the entropy of attention as a share of the largest, mean over the layers."""
    curves = {}
    for stage in ("encoder", "decoder"):
        layers = [name for name in run.curves if name.startswith(f"even {stage}")]
        pairs = [(run.curves[name.replace("even", "negative_entropy")], run.curves[name]) for name in layers]
        if pairs:
            curves[stage] = {e: mean(found[e] / even[e] for found, even in pairs) for e in pairs[0][0]}
    return curves


def sizes(runs: list[Run]) -> Figure:
    """AP by size of the objects: after the last epoch, and of four scales after as long as one took."""
    rows = by_row(runs, SIZED)
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    ax = figure.subplots()
    bins = [name for name in runs[0].curves if name.startswith("AP_") and "-" in name]
    places = [mean(map(float, name.removeprefix("AP_").split("-"))) for name in bins]
    for row, of_row in rows.items():
        values = [[run.last(name) for run in of_row] for name in bins]
        label = f"{words(row)}, {minutes(of_row, of_row[0].epochs[-1]):.0f} min"
        (line,) = ax.plot(places, list(map(mean, values)), "o-", label=label)
        fill(ax, places, values, line)
        if row == "multi_scale" and (epoch := epoch_of_equal_time(of_row, rows.get("single_scale", of_row))):
            values = [mean(run.curves[name][epoch] for run in of_row) for name in bins]
            label = f"the same after epoch {epoch}, {minutes(of_row, epoch):.0f} min"
            ax.plot(places, values, "o:", color=line.get_color(), label=label)
    ax.set_xticks(places, [name.removeprefix("AP_") for name in bins])
    ax.set(xlabel="side of the object in pixels", ylabel="AP")
    ax.grid(alpha=0.3)
    ax.legend(fontsize="small")
    return figure


def minutes(of_row: list[Run], epochs: int) -> float:
    """How long so many epochs of a row take."""
    return seconds_per_epoch(of_row) * epochs / 60


def epoch_of_equal_time(of_row: list[Run], others: list[Run]) -> int | None:
    """The last epoch of a row that it ends before the others have ended, None for its very last."""
    budget = minutes(others, others[0].epochs[-1])
    *before, last = of_row[0].epochs
    within = [epoch for epoch in before if minutes(of_row, epoch) <= budget < minutes(of_row, last)]
    return max(within, default=None)


def ablations(runs: list[Run]) -> Figure:
    """AP and AP_S after the last epoch over what an ablation varies; a dot for each seed."""
    rows = by_row(runs)
    panels = {what: {k: row for k, row in of.items() if row in rows} for what, of in ABLATIONS.items()}
    panels = {what: of for what, of in panels.items() if of}
    figure = Figure(figsize=(3.1 * len(panels), 3.4), layout="constrained")
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (what, of) in zip(axes, panels.items(), strict=True):
        for name, color in (("AP", "tab:blue"), ("AP_S", "tab:orange")):
            values = [[run.last(name) for run in rows[row]] for row in of.values()]
            ax.plot(list(of), list(map(mean, values)), color=color, label=name)
            for place, seeds in zip(of, values, strict=True):
                ax.plot([place] * len(seeds), seeds, "o", color=color, markersize=4)
        ax.set(xlabel=what)
        ax.margins(x=0.2)
        ax.grid(alpha=0.3)
    axes[0].set_ylim(0)
    axes[0].legend()
    return figure


def search(runs: list[Run]) -> str:
    """The last AP with other learning rates than a row's own, mean over the seeds that all have."""
    rows = by_row(runs)
    lines = [["row", "a quarter of its rate", "half", "its own", "twice"]]
    for name, row in FIGURE_3.items():
        at_rates = with_other_rates(name, row)
        finals = [{run.seed: run.last("AP") for run in rows.get(rate, [])} for rate in at_rates]
        if seeds := set.intersection(*map(set, finals)):
            cells = [f"{mean(final[seed] for seed in seeds):.3f}" for final in finals]
            lines.append([words(name), *["–"] * (4 - len(cells)), *cells])
    return table_lines(lines)


def words(row: str) -> str:
    return row.replace("_", " ").replace("detr", "DETR").replace("dc5", "DC5")
