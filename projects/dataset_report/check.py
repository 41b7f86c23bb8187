"""All checks of all data sets of a config, in their order."""

from collections.abc import Sequence

from mmengine.config import Config

from projects.reliable_runner.checks.class_names import check_num_classes
from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import read_json

from .annotations import check_boxes, check_references, check_repeats, part_entries
from .categories import check_classes, labels_by_category
from .finding import Finding
from .images import check_files, check_opened, check_splits, missing_files, open_images
from .report import CheckedSource, Report
from .sources import Source, find_sources, input_resize
from .statistics import Statistics, check_counts, check_limit

_PROPOSAL_NUMS = (100, 300, 1000)  # CocoMetric's default


def check_datasets(cfg: Config, splits: Sequence[str] | None = None, quick: bool = False) -> Report:
    """Check the data sets of a config; nothing is built but what loads images.

    Args:
        cfg: the config.
        splits: see `find_sources`.
        quick: whether images are left unopened.

    Raises:
        InputError: there is nothing to check, see `find_sources` and `read_json`.
    """
    report, paths = Report(), {}
    for source in find_sources(cfg, splits):
        coco, findings = part_entries(read_json(source.ann_file), source.is_scored)
        checked = CheckedSource(source, coco, Statistics.of(coco, source.names))
        if resize := input_resize(cfg):
            checked.input_sides = checked.statistics.sides_at_input(resize)
        report.checked[source.split] = checked
        paths[source.split] = source.paths(coco["images"])
        findings += _check_entries(cfg, source, coco)
        findings += _check_limits(cfg, checked)
        findings += _check_images(source, coco["images"], quick)
        if not any(finding.is_error for finding in findings):
            findings += _check_load(source)
        report.add(findings, source.split)
    report.add(check_splits(paths, with_content=not quick))
    return report


def _check_entries(cfg: Config, source: Source, coco: dict) -> list[Finding]:
    findings = check_classes(coco, source.classes, source.ann_file)
    try:
        check_num_classes(cfg.get("model"), source.names, source.ann_file)
    except InputError as error:
        findings.append(Finding("num_classes", str(error), is_error=True))
    findings += check_references(coco)
    findings += check_repeats(coco)
    return findings + check_boxes(coco, labels_by_category(coco, source.names))


def _check_limits(cfg: Config, checked: CheckedSource) -> list[Finding]:
    model = cfg.get("model", {})
    limits = [("model.num_queries", model.get("num_queries"), "The model cannot find all; raise it.")]
    if checked.source.is_scored:
        most = (model.get("test_cfg") or {}).get("max_per_img")
        limits += [
            ("model.test_cfg.max_per_img", most, "No more are predicted; raise it."),
            (*_counted(cfg, checked.source), "AP counts no more of a class in an image; raise it."),
        ]
    findings = check_counts(checked.statistics)
    for limit in limits:
        findings += check_limit(checked.statistics, checked.coco, *limit)
    return findings


def _counted(cfg: Config, source: Source) -> tuple[str, int | None]:
    """The key of the detections that AP counts, and the least that a COCO metric of the split has."""
    key = f"{source.split.split()[0]}_evaluator"
    metrics = cfg.get(key) or []
    if not isinstance(metrics, list):
        metrics = [metrics]
    counts = [
        metric.get("proposal_nums", _PROPOSAL_NUMS)[-1]
        for metric in metrics
        if metric.get("type") == "CocoMetric"
    ]
    return f"{key}.proposal_nums[-1]", min(counts, default=None)


def _check_images(source: Source, images: Sequence[dict], quick: bool) -> list[Finding]:
    paths = source.paths(images)
    missing = missing_files(paths)
    findings = check_files(images, missing)
    if not quick:
        absent = set(missing)
        there = [image for image, path in zip(images, paths, strict=True) if path not in absent]
        findings += check_opened(there, open_images(source.paths(there), source.loader()))
    return findings


def _check_load(source: Source) -> list[Finding]:
    """What a training would raise that no other check has found, such as a filter that leaves no image."""
    try:
        source.load()
    except InputError as error:
        return [Finding("load", str(error), is_error=True)]
    return []
