"""Hints at what keeps a training from learning, each once."""

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


class HintHook(Hook):
    """Warns of a learning rate for another batch, and of a validation after warm-up that finds nothing."""

    def __init__(self) -> None:
        self._told = False

    def before_train(self, runner: Runner) -> None:
        """Compare batch size and learning rate."""
        counts = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
        per_batch = runner.train_dataloader.batch_sampler.batch_size
        lr = (runner.cfg.get("optim_wrapper") or {}).get("optimizer", {}).get("lr")
        if lr and (hint := batch_hint(runner.cfg, per_batch * get_world_size() * counts, lr)):
            warn(hint)

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        """Look at AP50."""
        schedule = runner.cfg.get("param_scheduler") or []
        warmups = [
            step.get("end", 0)
            for step in (schedule if isinstance(schedule, list) else [schedule])
            if step.get("by_epoch") is False and step.get("type") in ("LinearLR", "ConstantLR")
        ]
        found = [value for name, value in (metrics or {}).items() if name.endswith("bbox_mAP_50")]
        if self._told or not found or any(found) or not runner.iter or runner.iter < max(warmups, default=0):
            return
        self._told = True
        warn(
            "the validation has found nothing (AP50 is 0). In the first epochs from scratch it is no fault; "
            "else the usual causes are a learning rate for another batch, labels that are shifted, boxes "
            "that the pipeline moves, a backbone without its weights, another normalisation. Which it is, "
            f"tells python tools/analysis_tools/sanity_check.py {runner.cfg.filename}"
        )
