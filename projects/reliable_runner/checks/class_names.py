"""Classes of the model, of the data and of a checkpoint: they agree, or the run says so and stops."""

import os
from collections.abc import Iterator

from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner
from torch import nn

from ..data.categories import compare_labels
from ..errors import InputError
from ..log import warn
from ..run_state import bare_model, built_loops, leaf_datasets


class ClassCheckHook(Hook):
    """Compares model, data sets and metrics before the first iteration of a run.

    `InputError` if ``bbox_head.num_classes`` is not the number of classes of a data set, a class has another
    label in another data set, or a data set makes no batch. A metric that reads another annotation file than
    its data set, more detections an image than count, and an image with more objects than the model has
    queries are warned about.
    """

    def before_run(self, runner: Runner) -> None:
        model, loops = bare_model(runner), list(built_loops(runner))
        datasets = [dataset for loop in loops for dataset in leaf_datasets(loop.dataloader.dataset)]
        sources = []
        for dataset in datasets:
            source = f"the data set of {getattr(dataset, 'ann_file', dataset)}"
            classes = class_names(getattr(dataset, "metainfo", {}))
            check_num_classes(model, classes, source)
            sources += [(source, classes)] if classes else []
        for finding in compare_labels(sources):
            if finding.is_error:
                raise InputError(str(finding))
            warn(str(finding))
        for loader in (loop.dataloader for loop in loops):
            if not len(loader):
                raise InputError(
                    f"drop_last=True leaves no batch: the data set has {len(loader.dataset)} images, "
                    f"batch_size is {loader.batch_sampler.batch_size}. Lower it or set drop_last=False."
                )
        for warning in _limits(model, loops, datasets):
            warn(warning)


def _limits(model: nn.Module, loops: list[BaseLoop], datasets: list) -> Iterator[str]:
    head, num_queries = getattr(model, "bbox_head", None), getattr(model, "num_queries", None)
    most, image = max((getattr(dataset, "max_instances", (0, "")) for dataset in datasets), default=(0, ""))
    if num_queries is not None and most > num_queries:
        yield (
            f"image {image} has {most} objects, but the model has {num_queries} queries: it can find no more "
            "objects than that in an image. Raise model.num_queries."
        )
    wanted = getattr(head, "max_per_img", 0)
    for loop in loops:
        for metric in getattr(getattr(loop, "evaluator", None), "metrics", []):
            files = [getattr(owner, "ann_file", None) for owner in (loop.dataloader.dataset, metric)]
            if all(files) and len(set(map(os.path.realpath, files))) == 2:
                yield (
                    f"the data set reads {files[0]}, its evaluator {files[1]}: the metric compares the "
                    "predictions with the boxes of other images. Give both the same ann_file."
                )
            if not hasattr(metric, "proposal_nums"):
                continue
            limits = {"val_evaluator.proposal_nums[-1]": metric.proposal_nums[-1]}
            if wanted and num_queries:  # without a decoder each token is one
                limits["num_queries * num_classes"] = num_queries * head.num_classes
            for name, limit in limits.items():
                if wanted > limit:
                    yield (
                        f"model.test_cfg.max_per_img is {wanted}, but {name} is {limit}: no more detections "
                        "than that count in an image."
                    )


def check_num_classes(model: nn.Module, classes: list[str] | None, source: object) -> None:
    """`InputError` if ``bbox_head.num_classes`` is not the number of classes that ``source`` names."""
    num_classes = getattr(getattr(model, "bbox_head", None), "num_classes", None)
    if None not in (num_classes, classes) and len(classes) != num_classes:
        raise InputError(
            f"model.bbox_head.num_classes is {num_classes}, but {source} has {len(classes)} classes: "
            f"{classes}\n"
            f"Set model.bbox_head.num_classes={len(classes)}, or the data set's metainfo=dict(classes=(...))."
        )


def class_difference(runner: Runner, checkpoint: dict) -> str:
    """Lines with the classes of ``checkpoint`` and of the run, "" if they agree or one names none."""
    theirs = class_names(checkpoint.get("meta", {}))
    loop = next(built_loops(runner), None)
    ours = class_names(getattr(loop.dataloader.dataset, "metainfo", {})) if loop else None
    if theirs is None or ours is None or theirs == ours:
        return ""
    return f"\n  classes of the checkpoint: {theirs}\n  classes of this run: {ours}"


def class_names(metainfo: dict) -> list[str] | None:
    """The classes in the metainfo of a data set, or in the ``meta`` of a checkpoint of any version."""
    metainfo = metainfo.get("dataset_meta") or metainfo
    classes = metainfo.get("classes", metainfo.get("CLASSES"))
    return None if classes is None else list(classes)
