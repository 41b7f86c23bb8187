"""The statistics of a config's data sets as one picture."""

from pathlib import Path
from typing import BinaryIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from projects.reliable_runner.data.statistics import SMALL

from .report import CheckedSource

_MOST_CLASSES = 30


def draw_statistics(checked: dict[str, CheckedSource], num_queries: int | None, out: Path | BinaryIO) -> None:
    """Draw classes, sizes of boxes, objects an image and sizes of images of each split."""
    figure = Figure(figsize=(11, 7.6), layout="constrained")
    axes = figure.subplots(2, 2)
    _draw_classes(axes[0, 0], checked)
    _draw_sides(axes[0, 1], checked)
    _draw_counts(axes[1, 0], checked, num_queries)
    _draw_images(axes[1, 1], checked)
    for ax in axes.flat:
        ax.grid(alpha=0.3)
        ax.set_axisbelow(True)
        for handle in ax.legend(fontsize="small").legend_handles:
            if isinstance(handle, PathCollection):
                handle.set_sizes([30])
    figure.savefig(out, dpi=100)


def _draw_classes(ax: Axes, checked: dict[str, CheckedSource]) -> None:
    """A bar for each class and split; of many classes those with most and with fewest objects."""
    first = next(iter(checked.values())).statistics
    order = np.argsort(-first.objects_per_class, kind="stable")
    title = "objects of each class"
    if len(order) > _MOST_CLASSES:
        half = _MOST_CLASSES // 2
        title += f", the {half} most frequent and the {half} rarest of {len(order)}"
        order = np.concatenate((order[:half], order[-half:]))
    names = [first.classes[label] for label in order]
    height = 0.8 / len(checked)
    for i, (split, item) in enumerate(checked.items()):
        by_name = dict(zip(item.statistics.classes, item.statistics.objects_per_class, strict=True))
        places = np.arange(len(names)) + (i - (len(checked) - 1) / 2) * height
        counts = [by_name.get(name, 0) for name in names]
        bars = ax.barh(places, counts, height, label=split)
        if len(names) <= 10:
            ax.bar_label(bars, padding=2, fontsize="small")
    ax.set(title=title, xscale="symlog", ylim=(len(names) - 0.5, -0.5))
    ax.margins(x=0.12)
    ax.set_yticks(range(len(names)), names, fontsize="small" if len(names) <= 15 else 6)


def _draw_sides(ax: Axes, checked: dict[str, CheckedSource]) -> None:
    sides = {split: item.statistics.sides for split, item in checked.items()}
    largest = max(values.max(initial=SMALL) for values in sides.values())
    _draw_histograms(ax, sides, np.geomspace(1, largest + 1, 41), SMALL, f"{SMALL} px")
    ax.set(title="sizes of the boxes", xscale="log", ylabel="% of the boxes")
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_xlabel("sqrt(width * height) in pixels of the original image")


def _draw_counts(ax: Axes, checked: dict[str, CheckedSource], num_queries: int | None) -> None:
    per_image = {split: item.statistics.objects_per_image for split, item in checked.items()}
    most = max(counts.max(initial=0) for counts in per_image.values())
    bins = np.arange(-0.5, most + 1.5, max(1, most // 30))
    _draw_histograms(ax, per_image, bins, num_queries, "num_queries")
    ax.set(title="objects in an image", xlabel="objects", ylabel="% of the images")


def _draw_histograms(
    ax: Axes, values: dict[str, np.ndarray], bins: np.ndarray, limit: float | None, limit_name: str
) -> None:
    """Each split's values in percent, and a line at the limit if there is one."""
    for split, numbers in values.items():
        weights = np.full(len(numbers), 100 / max(len(numbers), 1))
        ax.hist(numbers, bins, weights=weights, histtype="step", linewidth=1.6, label=split)
    if limit is not None:
        ax.axvline(limit, color="black", linestyle="--", linewidth=1, label=limit_name)


def _draw_images(ax: Axes, checked: dict[str, CheckedSource]) -> None:
    """A dot for each size of image; the more images, the larger."""
    largest = 1.0
    for split, item in checked.items():
        sizes, counts = np.unique(item.statistics.image_sizes, axis=0, return_counts=True)
        areas = 12 + 300 * counts / max(counts.sum(), 1)
        ax.scatter(*sizes.T, s=areas, alpha=0.5, label=split)
        largest = max(largest, sizes.max(initial=1))
    side = np.array([0, 1.1 * largest])
    for aspect, name in ((1, "1:1"), (4 / 3, "4:3"), (3 / 4, "3:4")):
        ax.plot(side, side / aspect, color="grey", linewidth=0.6, zorder=0)
        ax.annotate(name, (side[1] * min(1, aspect), side[1] * min(1, 1 / aspect)), color="grey")
    ax.set(title="sizes of the images", xlabel="width in pixels", ylabel="height in pixels")
    ax.set(xlim=(0, 1.15 * largest), ylim=(0, 1.15 * largest))
