"""The state of a training in a checkpoint: it fits the run that goes on from it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, find_latest_checkpoint

from ..errors import InputError
from .optimizer_state import alike, optimizer_faults

_PARTS = {"meta": dict, "message_hub": dict, "optimizer": dict, "param_schedulers": (list, dict)}
_HISTORIES = {"log_scalars": dict, "runtime_info": dict, "resumed_keys": dict}
_MOST = 2**63


class ResumeCheckHook(Hook):
    """Refuse to resume from a state that the run could not go on from, see `check_state`."""

    priority = "ABOVE_NORMAL"  # after CheckpointCheckHook, which looks for the parts and at the weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check what the runner is going to take over.

        Raises:
            InputError: see `check_state`.
        """
        if runner._resume:
            path = runner._load_from or find_latest_checkpoint(runner.work_dir)
            check_state(path, checkpoint, runner)


def check_state(path: str | Path, checkpoint: dict, runner: Runner) -> None:
    """Refuse a state that the run could not go on from.

    Args:
        path: where it is from, for the message.
        checkpoint: what mmengine's Runner has saved.
        runner: with optimizer and schedulers built.

    Raises:
        InputError: A part is of another type, or of another optimizer or schedule.
    """
    for fault in _faults(checkpoint, runner):
        raise InputError(
            f"{path}: a run can't be resumed from this checkpoint, {fault}. To start from its weights alone, "
            f"leave --resume out and set --cfg-options load_from={path}"
        )


def _faults(checkpoint: dict, runner: Runner) -> Iterator[str]:
    yield from _types(checkpoint, "", _PARTS)
    meta, history = checkpoint["meta"], checkpoint["message_hub"]
    for key in ("epoch", "iter"):
        if not _is_count(meta.get(key)):
            yield f"meta.{key} is {meta.get(key)!r:.40}"
    if not (meta.get("seed") is None or _is_count(meta["seed"], 2**32)):
        yield f"meta.seed is {meta['seed']!r:.40}"
    if lacking := set(_HISTORIES) - set(history):
        yield f"message_hub lacks {', '.join(sorted(lacking))}"
    yield from _types(history, "message_hub.", _HISTORIES)
    if not all(isinstance(name, str) for part in _HISTORIES for name in history[part]):
        yield "message_hub has names that are no strings"
    if not all(value is True for value in history["resumed_keys"].values()):
        yield "message_hub.resumed_keys holds other values than True"
    for name, value in history["runtime_info"].items():
        if not _is_noted(name, value):
            yield f"message_hub.runtime_info[{name!r:.40}] is {value!r:.40}"
    for name, buffer in history["log_scalars"].items():
        if isinstance(buffer, HistoryBuffer) and not _is_whole(buffer):
            yield f"the history of {name!r:.40} is damaged"
    if optimizer := getattr(runner.optim_wrapper, "optimizer", None):
        yield from optimizer_faults(checkpoint["optimizer"], optimizer)
    yield from _scheduler_faults(checkpoint.get("param_schedulers", []), runner.param_schedulers)


def _types(contents: dict, prefix: str, expected: dict) -> Iterator[str]:
    for key, kind in expected.items():
        if key in contents and not isinstance(contents[key], kind):
            yield f"{prefix}{key} is a {type(contents[key]).__name__}"


def _is_noted(name: str, value: object) -> bool:
    """Whether hooks can go on from what they have noted as ``name``."""
    if name.startswith("best_score"):
        return alike(value, 0.0)
    if name.startswith(("best_ckpt", "last_ckpt")):
        return value is None or isinstance(value, str)
    if name == "keep_ckpt_ids":
        return isinstance(value, list) and all(map(_is_count, value))
    if name == "outdated_ckpts":
        return isinstance(value, list) and all(isinstance(path, str) for path in value)
    if name == "early_stopping":
        return alike(value, ["coco/bbox_mAP", 0.0, 0])
    return True


def _is_count(value: object, most: int = _MOST) -> bool:
    return type(value) is int and 0 <= value < most


def _is_whole(buffer: HistoryBuffer) -> bool:
    arrays = [getattr(buffer, name, None) for name in ("_log_history", "_count_history")]
    return (
        all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays)
        and all(array.dtype.kind in "fiu" for array in arrays)
        and len(arrays[0]) == len(arrays[1])
        and _is_count(getattr(buffer, "max_length", None))
        and isinstance(getattr(buffer, "_statistics_methods", None), dict)
    )


def _scheduler_faults(states: object, schedulers: object) -> Iterator[str]:
    if not isinstance(schedulers, list) or not isinstance(states, list):
        return
    for index, (state, scheduler) in enumerate(zip(states, schedulers, strict=False)):
        own = scheduler.state_dict()
        if not isinstance(state, dict) or set(state) - set(own):
            yield f"param_schedulers[{index}] is none of {type(scheduler).__name__}"
            return
        for key, value in state.items():
            if not alike(value, own[key]):
                yield f"param_schedulers[{index}].{key} is {value!r:.40}"
