"""Classes of the model, of the data and of a checkpoint: they agree, or the run says so and stops."""

import logging
import os

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from ..errors import InputError
from ..run_state import bare_model, built_loops, leaf_datasets, must_fit_exactly
from .adaptation import is_class_branch


class ClassCheckHook(Hook):
    """Compares classes before the first iteration of a training, validation or test run.

    A data set whose number of classes is not the head's ``num_classes`` stops the run, and so does one that
    makes no batch. A metric that reads another annotation file than its data set, and an image with more
    objects than the model has queries, are warned about. A checkpoint of other classes is refused when it is
    resumed or tested; a training may start from it, see `CheckpointCheckHook`.
    """

    priority = "VERY_HIGH"  # before CheckpointCheckHook compares the weights

    def before_run(self, runner: Runner) -> None:
        """Compare the data sets of the run with the model.

        Raises:
            InputError: ``bbox_head.num_classes`` is not the number of classes of a data set, or a data set
                makes no batch.
        """
        model = bare_model(runner)
        datasets = [
            dataset for loop in built_loops(runner) for dataset in leaf_datasets(loop.dataloader.dataset)
        ]
        for dataset in datasets:
            classes = class_names(getattr(dataset, "metainfo", {}))
            source = f"the data set of {getattr(dataset, 'ann_file', dataset)}"
            check_num_classes(model, classes, source)
        for loop in built_loops(runner):
            _check_has_batches(loop.dataloader)
            self._warn_of_other_annotations(loop)
            self._warn_of_cut_detections(loop, model)
        self._warn_of_too_few_queries(datasets, getattr(model, "num_queries", None))

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare the classes of ``checkpoint`` with those of the run, if it must have the same.

        Raises:
            InputError: They differ, and the checkpoint is resumed or tested.
        """
        if must_fit_exactly(runner) and (difference := class_difference(runner, checkpoint)):
            raise InputError(
                f"the checkpoint {runner._load_from or ''} was trained on other classes{difference}\n"
                "To test or resume it, give the data sets and the model its classes. To train on the classes "
                "of this run, start from it: load_from=... without --resume."
            )

    @staticmethod
    def _warn_of_other_annotations(loop: BaseLoop) -> None:
        dataset = loop.dataloader.dataset
        for metric in getattr(getattr(loop, "evaluator", None), "metrics", []):
            files = [getattr(owner, "ann_file", None) for owner in (dataset, metric)]
            if all(files) and len(set(map(os.path.realpath, files))) == 2:
                print_log(
                    f"the data set reads {files[0]}, its evaluator {files[1]}: the metric compares the "
                    "predictions with the boxes of other images. Give both the same ann_file.",
                    logger="current",
                    level=logging.WARNING,
                )

    @staticmethod
    def _warn_of_cut_detections(loop: BaseLoop, model: nn.Module) -> None:
        head = getattr(model, "bbox_head", None)
        wanted = getattr(head, "max_per_img", None)
        counted = [
            metric.proposal_nums[-1]
            for metric in getattr(getattr(loop, "evaluator", None), "metrics", [])
            if hasattr(metric, "proposal_nums")
        ]
        if wanted is None or not counted:
            return
        limits = {"val_evaluator.proposal_nums[-1]": min(counted)}
        if getattr(model, "num_queries", None):
            limits["num_queries * num_classes"] = model.num_queries * head.num_classes
        for name, limit in limits.items():
            if wanted > limit:
                print_log(
                    f"model.test_cfg.max_per_img is {wanted}, but {name} is {limit}: no more detections than "
                    "that count in an image.",
                    logger="current",
                    level=logging.WARNING,
                )

    @staticmethod
    def _warn_of_too_few_queries(datasets: list, num_queries: int | None) -> None:
        most, image = max(
            (getattr(dataset, "max_instances", (0, "")) for dataset in datasets), default=(0, "")
        )
        if num_queries is not None and most > num_queries:
            print_log(
                f"image {image} has {most} objects, but the model has {num_queries} queries: it can find no "
                "more objects than that in an image. Raise model.num_queries.",
                logger="current",
                level=logging.WARNING,
            )


def check_num_classes(model: nn.Module, classes: list[str] | None, source: object) -> None:
    """Compare the head of ``model`` with the classes that ``source`` names; None if it names none.

    Raises:
        InputError: ``bbox_head.num_classes`` is another number.
    """
    num_classes = getattr(getattr(model, "bbox_head", None), "num_classes", None)
    if None not in (num_classes, classes) and len(classes) != num_classes:
        raise InputError(
            f"model.bbox_head.num_classes is {num_classes}, but {source} has {len(classes)} classes: "
            f"{classes}\n"
            f"Set model.bbox_head.num_classes={len(classes)}, or the data set's metainfo=dict(classes=(...))."
        )


def class_difference(runner: Runner, checkpoint: dict) -> str:
    """Lines with the classes of ``checkpoint`` and of the run, "" if they are the same.

    A checkpoint that names no classes is judged by the shapes of its class branches.
    """
    loop = next(built_loops(runner), None)
    meta = checkpoint.get("meta", {})
    theirs = class_names(meta.get("dataset_meta") or meta)
    ours = class_names(getattr(loop.dataloader.dataset, "metainfo", {})) if loop else None
    if theirs is None or ours is None:
        weights = checkpoint.get("state_dict", checkpoint)
        theirs, ours = _rows(weights), _rows(bare_model(runner).state_dict())
        shared = theirs.keys() & ours.keys()
        theirs, ours = ({key: rows[key] for key in sorted(shared)} for rows in (theirs, ours))
    if theirs == ours:
        return ""
    return f"\n  classes of the checkpoint: {theirs}\n  classes of this run: {ours}"


def _check_has_batches(loader: DataLoader) -> None:
    if not len(loader):
        raise InputError(
            f"drop_last=True leaves no batch: the data set has {len(loader.dataset)} images, batch_size is "
            f"{loader.batch_sampler.batch_size}. Lower batch_size or set drop_last=False."
        )


def class_names(metainfo: dict) -> list[str] | None:
    """Return the classes in ``metainfo``; checkpoints of older versions write the key in capitals."""
    classes = metainfo.get("classes", metainfo.get("CLASSES"))
    return None if classes is None else list(classes)


def _rows(state_dict: dict) -> dict[str, int]:
    """Return the number of rows (classes) of each class branch."""
    return {
        key.removeprefix("module."): len(value) for key, value in state_dict.items() if is_class_branch(key)
    }
