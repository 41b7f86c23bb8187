"""What a run is about to work on, said before its first iteration."""

import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import shorten
from projects.reliable_runner.run_state import built_loops, leaf_datasets


@HOOKS.register_module()
class DatasetReportHook(Hook):
    """Logs a few lines about each data set of the run, and stops the run if image files are missing.

    The lines tell the number of images and objects, the objects a class, and the sizes of the boxes. Classes
    without an object, and boxes that look like corners, are warned about; for the training set alone.
    """

    priority = "HIGH"  # after the classes were compared

    def before_run(self, runner: Runner) -> None:
        """Look at the data sets.

        Raises:
            InputError: An image file is missing; the message names the first few and says how many.
        """
        for loop in built_loops(runner):
            is_training = loop is runner._train_loop
            for dataset in leaf_datasets(loop.dataloader.dataset):
                _stop_if_missing(dataset)
                _report(dataset, with_suspicions=is_training)


def _stop_if_missing(dataset: object) -> None:
    missing = getattr(dataset, "missing_images", ())
    if missing:
        others = f": {shorten(missing[1:])}" if missing[1:] else ""
        raise InputError(
            f"image {missing[0]} does not exist; check data_root, data_prefix and file_name in "
            f"{dataset.ann_file}. {len(missing)} of {len(dataset)} images are missing{others}"
        )


def _report(dataset: object, with_suspicions: bool) -> None:
    lines = getattr(dataset, "summary", ())
    if lines:
        print_log("\n  ".join((f"{dataset.ann_file}:", *lines)), logger="current")
    for finding in getattr(dataset, "suspicions", ()) if with_suspicions else ():
        print_log(f"{dataset.ann_file}: {finding}", logger="current", level=logging.WARNING)
