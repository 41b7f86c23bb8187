"""The curves of a run and of its test."""

from collections.abc import Sequence
from statistics import fmean
from xml.etree.ElementTree import Element

import numpy as np

from .charts import NUM_STYLES, line_chart
from .markup import element, folded, number, section, table
from .precision import Precision
from .run_folder import Curve, by_epoch

# Titles, and the values that stand in one chart; those that a log does not have are left out.
_CHARTS = (
    ("Average precision on the validation set", ("bbox_mAP", "bbox_mAP_50", "bbox_mAP_75")),
    ("By size of the objects", ("bbox_mAP_s", "bbox_mAP_m", "bbox_mAP_l")),
    ("Loss, the sum of all", ("loss", "val/loss")),
    ("Losses of the last decoder layer", ("loss_cls", "loss_bbox", "loss_iou")),
    ("Learning rate", ("lr",)),
    ("Norm of the gradients", ("grad_norm",)),
)


def training_section(log: dict[str, Curve]) -> Element:
    """What a training has logged, the mean of each epoch."""
    means = {
        key: [(epoch, fmean(values)) for epoch, values in by_epoch(curve).items()]
        for key, curve in log.items()
    }
    x_name = "epoch" if "epoch" in log else "iteration"
    charts = []
    for title, keys in _CHARTS:
        limits = (0, 1) if keys[0].startswith("bbox_mAP") else None
        if series := {key: means[key] for key in keys if key in means}:
            charts.append(line_chart(title, x_name, series, limits))
    tested = [key for key in means if key.startswith("bbox_mAP")]
    values = {key: dict(means[key]) for key in tested}
    rows = [
        (f"{epoch:g}", *(number(values[key].get(epoch)) for key in tested))
        for epoch in sorted({epoch for curve in values.values() for epoch in curve})
    ]
    numbers = folded("Average precision in numbers", table("By epoch", [x_name, *tested], rows))
    return section("Training", "training", _grid(charts), numbers if rows else None)


def recall_section(precision: Precision, classes: Sequence[str]) -> Element:
    """Precision against recall: the mean of all classes at some IoUs, and classes at 0.5."""
    has_objects = (precision.values[..., 0] > -1).any((0, 1))  # (num_classes,)
    at_half = precision.at(0.5)[..., 0]
    means = {f"IoU {iou:g}": precision.at(iou)[..., has_objects, 0] for iou in (0.5, 0.75, 0.9)}
    charts = [_recall_chart("Mean of all classes", {k: x[0].mean(-1) for k, x in means.items() if len(x)})]
    note = None
    if len(at_half):
        labels = np.flatnonzero(has_objects)
        labels = labels[np.argsort(at_half[0].mean(0)[labels], kind="stable")]
        if len(labels) > NUM_STYLES:
            labels = labels[: NUM_STYLES - 1]
            note = element("p", f"Of the classes the {len(labels)} with the lowest AP50 are shown.")
        charts.append(_recall_chart("Classes at IoU 0.5", {classes[i]: at_half[0][:, i] for i in labels}))
    return section("Precision and recall", "recall", note, _grid(charts))


def _recall_chart(title: str, curves: dict[str, np.ndarray]) -> Element:
    series = {
        f"{name}: AP {curve.mean():.3f}": [*zip(np.linspace(0, 1, len(curve)), curve.tolist(), strict=True)]
        for name, curve in curves.items()
    }
    return line_chart(title, "recall", series, (0, 1), tell_last=False)


def _grid(figures: Sequence[Element]) -> Element:
    return element("div", *figures, class_="grid")
