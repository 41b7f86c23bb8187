"""Hints at what keeps a training from learning, each once."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..log import warn

_FIT = 1.5  # ratios of batch sizes up to here are left to the user


def batch_hint(cfg: dict, batch_size: int, lr: float) -> str:
    """What is wrong with the learning rate for a step of ``batch_size`` images in all, "" if nothing."""
    settings = cfg.get("auto_scale_lr") or {}
    base = settings.get("base_batch_size")
    if not base or settings.get("enable") or 1 / _FIT <= batch_size / base <= _FIT:
        return ""
    return (
        f"a step has {batch_size} images, but the learning rate {lr:g} is for {base} "
        f"(auto_scale_lr.base_batch_size): {lr * batch_size / base:g} would fit; --auto-scale-lr sets it, "
        "unless batches are accumulated"
    )


def normalisation_hint(preprocessor: dict, images: Sequence[np.ndarray]) -> str:
    """What is wrong with mean and std of a data preprocessor's config for images; "" if nothing."""
    mean, std = preprocessor.get("mean"), preprocessor.get("std")
    if mean is None or std is None or not images:
        return ""
    mean, std = np.mean(mean), np.mean(std)
    pixels = [(image.astype(np.float64) - mean) / std for image in images]
    center, spread = np.mean([x.mean() for x in pixels]), np.mean([x.std() for x in pixels])
    if abs(center) <= 3 and 0.1 < spread < 10:
        return ""
    raw = np.mean([image.mean() for image in images]), np.mean([image.std() for image in images])
    return (
        f"model.data_preprocessor: mean and std leave images of mean {center:.3g} and deviation {spread:.3g}"
        f"; their own are {raw[0]:.4g} and {raw[1]:.4g}"
    )


def as_list(value: object) -> Sequence:
    """What a config may hold in a list, alone, or not at all."""
    if isinstance(value, (list, tuple)):
        return value
    return [value] if value else []


def schedule_hints(cfg: dict) -> Iterator[str]:
    """Schedules by epoch that go on after the last epoch."""
    epochs = (cfg.get("train_cfg") or {}).get("max_epochs")
    for index, step in enumerate(as_list(cfg.get("param_scheduler"))):
        ends = [value for key in ("T_max", "end", "total_iters") if isinstance(value := step.get(key), int)]
        if epochs and step.get("by_epoch", True) and ends and max(ends) > epochs:
            yield (
                f"param_scheduler.{index} goes on to epoch {max(ends)}, but train_cfg.max_epochs is {epochs}"
                "; in the configs here max_epochs=N, without train_cfg, sets both"
            )


class HintHook(Hook):
    """Warns of a learning rate for another batch, and of a validation after warm-up that finds nothing."""

    def __init__(self) -> None:
        self._told = False

    def before_train(self, runner: Runner) -> None:
        counts = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
        per_batch = runner.train_dataloader.batch_sampler.batch_size
        lr = (runner.cfg.get("optim_wrapper") or {}).get("optimizer", {}).get("lr")
        if lr and (hint := batch_hint(runner.cfg, per_batch * get_world_size() * counts, lr)):
            warn(hint)
        for hint in schedule_hints(runner.cfg):
            warn(hint)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        warmups = [
            step.get("end", 0)
            for step in as_list(runner.cfg.get("param_scheduler"))
            if step.get("by_epoch") is False and step.get("type") in ("LinearLR", "ConstantLR")
        ]
        found = [value for name, value in (metrics or {}).items() if name.endswith("bbox_mAP_50")]
        if self._told or not found or any(found) or not runner.iter or runner.iter < max(warmups, default=0):
            return
        self._told = True
        # What the run has written of its config, options and all.
        config = Path(runner.work_dir, Path(runner.cfg.filename or f"{runner.timestamp}.py").name)
        warn(
            "the validation has found nothing (AP50 is 0). In the first epochs from scratch it is no fault; "
            "else the usual causes are a learning rate for another batch, labels that are shifted, boxes "
            "that the pipeline moves, a backbone without its weights, another normalisation. Which it is, "
            f"tells python tools/analysis_tools/sanity_check.py {shlex.quote(str(config))}"
        )
