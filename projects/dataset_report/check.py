"""All checks of all data sets of a config, in their order."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress

import numpy as np
from mmengine.config import Config

from projects.reliable_runner.checks.class_names import check_num_classes
from projects.reliable_runner.data.categories import compare_labels, compare_names
from projects.reliable_runner.data.finding import Finding
from projects.reliable_runner.data.statistics import Statistics, reach_out, share
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import read_json
from projects.reliable_runner.training.hints import normalisation_hint

from .entries import check_references, check_repeats, split_entries
from .images import check_images, check_splits
from .report import CheckedSource, Report
from .sources import Source, find_sources, input_resize

_LARGEST = 8  # times the scale; more is no advice
_NORMALISED = 8  # images, whose range is compared with mean and std
_TINY = 4  # pixels: half a token of the finest level
_PROPOSAL_NUMS = (100, 300, 1000)  # CocoMetric's default


def check_datasets(cfg: Config, splits: Sequence[str] | None = None, quick: bool = False) -> Report:
    """Check the data sets of a config, ``quick`` without opening images; only what loads these is built.

    Raises:
        InputError: there is nothing to check, see `find_sources` and `read_json`.
    """
    report, paths = Report(), {}
    for source in find_sources(cfg, splits):
        coco, findings = split_entries(read_json(source.ann_file), source.folder, source.labels)
        statistics, resize = Statistics(coco, source.labels), input_resize(cfg)
        input_sides = statistics.sides_at_input(resize) if resize else None
        report.checked[source.split] = CheckedSource(source, coco["categories"], statistics, input_sides)
        paths[source.split] = [os.path.join(source.folder, image["file_name"]) for image in coco["images"]]
        findings += _check_classes(cfg, source, [category["name"] for category in coco["categories"]])
        findings += check_references(coco)
        findings += check_repeats(coco)
        findings += _check_boxes(statistics, len(coco["annotations"]), source.split.startswith("train"))
        findings += statistics.suspicions()
        findings += _check_limits(cfg, source, statistics)
        if resize and coco["images"]:
            findings += _check_input_sizes(statistics, input_sides, resize)
        load = None if quick else source.loader()
        in_channels = ((cfg.get("model") or {}).get("backbone") or {}).get("in_channels", 3)
        findings += check_images(coco["images"], paths[source.split], load, in_channels)
        if load:
            findings += _check_normalisation(cfg, paths[source.split][:_NORMALISED], load)
        if not any(finding.is_error for finding in findings):
            findings += _raised_by(source.load, "load")
        report.add(findings, source.split)
    report.add(compare_labels([(split, [*x.source.labels]) for split, x in report.checked.items()]))
    report.add(check_splits(paths, with_content=not quick))
    return report


def _raised_by(check: Callable, key: str, *args) -> Iterator[Finding]:
    """The `InputError` of ``check(*args)`` as a finding, which has the name ``key``."""
    try:
        check(*args)
    except InputError as error:
        yield Finding(key, str(error), is_error=True)


def _check_classes(cfg: Config, source: Source, categories: list[str]) -> Iterator[Finding]:
    """Classes, categories and ``num_classes`` that disagree, and categories that are no class."""
    yield from _raised_by(compare_names, "classes", source.classes, categories, source.ann_file)
    if ignored := [name for name in categories if name not in source.classes]:
        message = "categories that are not among the classes; their boxes are not used"
        yield Finding("categories_ignored", message, ignored)
    yield from _raised_by(check_num_classes, "num_classes", cfg.get("model"), source.labels, source.ann_file)


def _check_boxes(statistics: Statistics, num_annotations: int, is_trained: bool) -> Iterator[Finding]:
    """Boxes that can't be trained on, or that leave their image."""
    remedy = "They are not trained on; the COCO metric counts them all the same."
    for fault, names in statistics.faulty().items():
        yield Finding("box_" + fault.replace(" ", "_").replace("'", ""), f"boxes {fault}", names, remedy)
    leave = (statistics.faults < 0) & reach_out(statistics.boxes, statistics.box_image_sizes)
    if names := statistics.names(leave):
        message = "boxes that leave their image by more than a pixel"
        yield Finding("box_partly_outside", message, names, "A training clips them.")
    if not statistics.num_objects:
        crowds = f", {statistics.num_crowds} of them crowds," if statistics.num_crowds else ""
        message = f"none of the {num_annotations} annotations{crowds} can be trained on"
        remedy = "Boxes are x, y, width, height in pixels, categories classes, objects iscrowd 0."
        if not is_trained:
            message = f"none of the {num_annotations} annotations{crowds} is an object to find: AP will be -1"
        yield Finding("nothing_usable", message, remedy=remedy, is_error=is_trained)


def _check_input_sizes(
    statistics: Statistics, input_sides: np.ndarray, resize: Callable[[float, float], tuple[float, float]]
) -> Iterator[Finding]:
    """Images that the test pipeline makes smaller, and objects that are hardly there after it."""
    factors = np.array([resize(*size) for size in statistics.image_sizes])
    vanish = ((statistics.image_sizes * factors).round() < 1).any(1)
    if names := [statistics.file_names[i] for i in np.flatnonzero(vanish)]:
        message = "images that have no pixel left after the test pipeline's resize"
        remedy = "Take them out of the annotation file, or let the pipeline pad or crop first."
        yield Finding("images_vanish", message, names, remedy, is_error=True)
    factors = factors.min(1)
    factor, size = np.median(factors), np.sort(np.median(statistics.image_sizes, axis=0))[::-1]
    if (shrunk := share(factors < 1)) >= 0.5:
        message = (
            f"{shrunk:.0%} of the images are larger than the test pipeline's scale and made smaller, the "
            f"median one to {factor:.0%} of its sides"
        )
        remedy = "scale=({:.0f}, {:.0f}) keeps the median image as it is.".format(*size)
        yield Finding("images_shrunk", message, remedy=remedy)
    if (tiny := share(input_sides < _TINY)) >= 0.01:
        message = (
            f"{tiny:.0%} of the objects are below {_TINY} px (square root of width * height) after the test "
            "pipeline's resize"
        )
        needed = _TINY / np.quantile(input_sides, 0.01)  # so that all but 1% are above
        w, h = size * factor * needed
        remedy = f"A scale {needed:.1f} times as large, ({w:.0f}, {h:.0f}), keeps 99%."
        yield Finding("objects_tiny", message, remedy=remedy if needed <= _LARGEST else "")


def _check_normalisation(
    cfg: Config, paths: Sequence[str], load: Callable[[dict], dict]
) -> Iterator[Finding]:
    """Mean and std that are of another range than the first images."""
    images = []
    for path in paths:
        with suppress(Exception):  # what can't be opened has a finding of its own
            images.append(load(dict(img_path=path))["img"])
    preprocessor = (cfg.get("model") or {}).get("data_preprocessor") or {}
    if hint := normalisation_hint(preprocessor, images):
        yield Finding(
            "normalisation", hint, remedy="Set them to those of your images, see docs/custom_data.md."
        )


def _check_limits(cfg: Config, source: Source, statistics: Statistics) -> Iterator[Finding]:
    """Images with more objects than are predicted or counted."""
    model, evaluator = cfg.get("model", {}), f"{source.split.split()[0]}_evaluator"
    limits = [("model.num_queries", model.get("num_queries"), "The model cannot find all; raise it.")]
    if source.is_scored:
        metrics = cfg.get(evaluator) or []
        metrics = metrics if isinstance(metrics, list) else [metrics]
        coco = [metric for metric in metrics if metric.get("type") == "CocoMetric"]
        counted = min((metric.get("proposal_nums", _PROPOSAL_NUMS)[-1] for metric in coco), default=None)
        predicted = (model.get("test_cfg") or {}).get("max_per_img")
        remedy = "AP counts no more of a class in an image; raise it."
        limits += [
            ("model.test_cfg.max_per_img", predicted, "No more are predicted; raise it."),
            (f"{evaluator}.proposal_nums[-1]", counted, remedy),
        ]
    counts = statistics.objects_per_image
    for key, limit, remedy in limits:
        crowded = np.flatnonzero(counts > limit) if limit is not None else ()
        if names := [f"{statistics.file_names[i]} ({counts[i]})" for i in crowded]:
            message = f"images with more objects than {key}, which is {limit}"
            yield Finding(f"more_than_{key}", message, names, remedy)
