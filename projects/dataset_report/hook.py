"""What a run is about to work on, logged before its first iteration."""

from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from projects.reliable_runner.errors import InputError
from projects.reliable_runner.files.coco_file import shorten
from projects.reliable_runner.log import warn
from projects.reliable_runner.run_state import built_loops, leaf_datasets


@HOOKS.register_module()
class DatasetReportHook(Hook):
    """Logs the summary of each `CocoDataset` of the run, and stops the run if image files are missing.

    Classes without an object, and boxes that look like corners, are warned about for the training set alone.
    """

    priority = "HIGH"  # after the classes were compared

    def before_run(self, runner: Runner) -> None:
        """Look at the data sets; `InputError` names the first few missing image files."""
        for loop in built_loops(runner):
            for dataset in leaf_datasets(loop.dataloader.dataset):
                if missing := getattr(dataset, "missing_images", ()):
                    others = f": {shorten(missing[1:])}" if missing[1:] else ""
                    raise InputError(
                        f"image {missing[0]} does not exist; check data_root, data_prefix and file_name in "
                        f"{dataset.ann_file}. {len(missing)} of {len(dataset)} images are missing{others}"
                    )
                if lines := getattr(dataset, "summary", ()):
                    MMLogger.get_current_instance().info("\n  ".join((f"{dataset.ann_file}:", *lines)))
                for finding in getattr(dataset, "suspicions", ()) if loop is runner._train_loop else ():
                    warn(f"{dataset.ann_file}: {finding}")
