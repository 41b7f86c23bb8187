"""A disk that is too small for a run is an error before the run starts."""

import os
import shutil
from math import ceil
from pathlib import Path

from mmengine.hooks import CheckpointHook, EMAHook
from mmengine.runner import Runner

from ..errors import InputError
from ..log import warn
from ..run_state import bare_model


def check_writable(folder: Path, name: str, option: str) -> None:
    """Make ``folder``, the ``name`` of a run, which ``option`` chooses; `InputError` if that fails."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: the {name} can't be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK):
        raise InputError(f"{folder}: the {name} can't be written; choose another with {option}")


def check_disk_space(runner: Runner, hook: CheckpointHook) -> None:
    """Compare what ``hook`` is going to write with what is free, before the first iteration.

    `InputError` if there is no room for one more checkpoint beside the one that it replaces.
    """
    done, end = (runner.epoch, runner.max_epochs) if hook.by_epoch else (runner.iter, runner.max_iters)
    left = end - max(done, hook.save_begin)
    added = to_write = ceil(left / hook.interval) if hook.interval > 0 else int(hook.save_last and left > 0)
    if not to_write:
        return
    if hook.max_keep_ckpts > 0:
        added = min(to_write, hook.max_keep_ckpts - len(hook.keep_ckpt_ids))
    model = bare_model(runner)
    weights = sum(tensor.nbytes for tensor in model.state_dict().values())
    trained = sum(weight.nbytes for weight in model.parameters() if weight.requires_grad)
    best = weights * (1 + any(isinstance(other, EMAHook) for other in runner.hooks))
    one = best + 2 * trained * hook.save_optimizer  # Adam's two moments stand for any optimizer
    # The temporary file of a checkpoint stands beside the checkpoint that it replaces.
    needed = one * (min(added, 1) + 1)
    wanted = one * (added + 1) + best * len(hook.save_best or ())
    free = shutil.disk_usage(hook.out_dir).free
    found = f"{hook.out_dir}: {_mb(free)} are free, a checkpoint takes about {_mb(one)}"
    remedy = (
        "free some, choose another folder with --work-dir, or keep fewer checkpoints: "
        "default_hooks.checkpoint.max_keep_ckpts=1"
    )
    if free < needed:
        raise InputError(
            f"{found}; to write one safely, with the one it replaces, takes {_mb(needed)}: {remedy}"
        )
    if free < wanted:
        warn(f"{found}, and the whole run {_mb(wanted)}: {remedy}")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.2f} MB"
