"""What would fail at the first validation fails before the first iteration."""

from collections.abc import Iterator
from itertools import islice
from unittest.mock import patch

from mmengine.hooks import CheckpointHook, EarlyStoppingHook, Hook
from mmengine.runner import BaseLoop, Runner
from torch import Tensor
from torch.utils.data import DataLoader

from ..data.seeded_items import generators_kept
from ..errors import InputError, NonFiniteError
from ..log import quiet, warn
from ..run_state import bare_model, input_channels, leaf_datasets
from .hints import normalisation_hint
from .val_loss import ValLossHook


class RehearsalHook(Hook):
    """Validate one batch before a training, and start the backends that draw and log.

    Pipeline, model, metrics and the names of metrics that hooks look for are then known to work. Weights,
    random numbers and messages are as before. `InputError` if the training set has no object, an image can't
    be fed to the model, or a hook looks for a metric that there is not; what the validation raises else.
    """

    priority = "VERY_LOW"  # data set and checkpoint have been checked by others

    def before_train(self, runner: Runner) -> None:
        for backend in runner.visualizer._vis_backends.values():
            backend.experiment  # noqa: B018 - it is made when it is first asked for
        for loop in filter(None, (runner.train_loop, runner.val_loop)):
            _check_objects(loop, loop is runner.train_loop)
            _check_channels(runner, loop)
        if runner.val_loop is None:
            return
        measuring = [hook for hook in runner.hooks if isinstance(hook, ValLossHook)]
        try:
            with (
                patch.object(runner, "_hooks", measuring),
                patch.object(runner.val_loop, "dataloader", _FirstBatch(runner.val_loop.dataloader)),
                generators_kept(),
                quiet(),
            ):
                metrics = runner.val_loop.run()
        except NonFiniteError:  # the training says more of it
            return
        except Exception:
            runner.logger.error("a validation fails, tried on one batch:")
            raise
        for key, wanted in _wanted(runner):
            if metrics and wanted not in metrics:  # without any detection there may be none
                raise InputError(f"{key}={wanted!r} is no metric of the validation: {', '.join(metrics)}")


def _check_objects(loop: BaseLoop, trains: bool) -> None:
    """Refuse to train without an object, and tell that a validation has none."""
    datasets = list(leaf_datasets(loop.dataloader.dataset))
    if not any(getattr(dataset, "max_instances", (1,))[0] for dataset in datasets):
        files = ", ".join(dataset.ann_file for dataset in datasets)
        if trains:
            raise InputError(f"{files}: no image has an object to train on")
        warn(f"{files}: no image has an object: AP will be -1, and no checkpoint the best")


def _check_channels(runner: Runner, loop: BaseLoop) -> None:
    """Load the first image of each data set, and compare it with what the model takes."""
    wanted = input_channels(bare_model(runner))
    for dataset in leaf_datasets(loop.dataloader.dataset) if wanted else ():
        with generators_kept():
            image = (dataset.prepare_data(0) or {}).get("inputs")
        if not isinstance(image, Tensor):
            continue
        path = dataset.get_data_info(0).get("img_path")
        if len(image) != wanted:
            raise InputError(
                f"image {path} has {len(image)} channels, but the model takes {wanted}; LoadImageFromFile's "
                "color_type and model.backbone.in_channels must agree, see docs/custom_data.md"
            )
        preprocessor = (runner.cfg.get("model") or {}).get("data_preprocessor") or {}
        if loop is runner.train_loop and (hint := normalisation_hint(preprocessor, [image.numpy()])):
            warn(f"{hint} (in {path})")


class _FirstBatch:
    """A data loader that gives one batch."""

    def __init__(self, loader: DataLoader) -> None:
        self.loader, self.dataset = loader, loader.dataset

    def __iter__(self) -> Iterator[dict]:
        return islice(self.loader, 1)


def _wanted(runner: Runner) -> Iterator[tuple[str, str]]:
    """Which key of the config looks for which metric."""
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook) and hook.save_best:
            names = [name for name in hook.key_indicators if name != "auto"]
            yield from (("default_hooks.checkpoint.save_best", name) for name in names)
        if isinstance(hook, EarlyStoppingHook):
            yield "EarlyStoppingHook.monitor", hook.monitor
    for index, scheduler in enumerate(runner.param_schedulers or ()):
        if hasattr(scheduler, "monitor"):
            yield f"param_scheduler.{index}.monitor", scheduler.monitor
