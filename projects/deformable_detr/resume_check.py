"""The state of a training in a checkpoint: it fits the run that goes on from it, and reaches for nothing."""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer, print_log
from mmengine.runner import Runner, find_latest_checkpoint
from torch.optim import Optimizer

from .errors import InputError
from .registry import HOOKS

_PARTS = {"meta": dict, "message_hub": dict, "optimizer": dict, "param_schedulers": (list, dict)}
_HISTORIES = {"log_scalars": dict, "runtime_info": dict, "resumed_keys": dict}
_MOST = 2**63
# What torch's optimizers keep of a parameter: what they can't do without, and what has the parameter's shape.
_KEPT = {name: {"step", "exp_avg", "exp_avg_sq"} for name in ("Adam", "AdamW")}
_AVERAGES = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}


@HOOKS.register_module()
class ResumeCheckHook(Hook):
    """Refuse to resume from a state that the run could not go on from, see `check_state`."""

    priority = (
        "ABOVE_NORMAL"  # after CheckpointCheckHook, which looks for the parts and at the weights
    )

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

    Paths of files that CheckpointHook would delete are taken out of ``checkpoint`` if they do not lie in the
    run's own folder.

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
    _forget_foreign_files(checkpoint["message_hub"]["runtime_info"], runner)


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
        if name.startswith("best_score") and not _alike(value, 0.0):
            yield f"message_hub.runtime_info[{name!r:.40}] is {value!r:.40}"
    for name, buffer in history["log_scalars"].items():
        if isinstance(buffer, HistoryBuffer) and not _is_whole(buffer):
            yield f"the history of {name!r:.40} is damaged"
    if optimizer := getattr(runner.optim_wrapper, "optimizer", None):
        yield from _optimizer_faults(checkpoint["optimizer"], optimizer)
    yield from _scheduler_faults(checkpoint.get("param_schedulers", []), runner.param_schedulers)


def _types(contents: dict, prefix: str, expected: dict) -> Iterator[str]:
    for key, kind in expected.items():
        if key in contents and not isinstance(contents[key], kind):
            yield f"{prefix}{key} is a {type(contents[key]).__name__}"


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


def _optimizer_faults(state: dict, optimizer: Optimizer) -> Iterator[str]:
    """Yield what differs from the state of ``optimizer``, which torch would find out at the first step."""
    groups, states = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not isinstance(states, dict):
        yield "its optimizer has no state and no param_groups"
        return
    own = optimizer.param_groups
    params = [group.get("params") if isinstance(group, dict) else None for group in groups]
    sizes = [len(names) if isinstance(names, list) else -1 for names in params]
    if sizes != [len(group["params"]) for group in own]:
        yield (
            f"its optimizer has groups of {sizes} parameters, this run's has "
            f"{[len(group['params']) for group in own]}"
        )
        return
    for index, (theirs, ours) in enumerate(zip(groups, own, strict=True)):
        for key, value in ours.items():
            if key != "params" and key in theirs and not _alike(theirs[key], value):
                yield f"optimizer.param_groups[{index}].{key} is {theirs[key]!r:.40}"
        for key in optimizer.defaults.keys() & {"lr", "betas", "eps", "weight_decay", "momentum"}:
            if key not in theirs:
                yield f"optimizer.param_groups[{index}] lacks {key}"
    for theirs, ours in zip(groups, own, strict=True):
        for key, parameter in zip(theirs["params"], ours["params"], strict=True):
            if not isinstance(key, int):
                yield f"its optimizer numbers a parameter {key!r:.40}"
            elif states.get(key, {}) and not _fits(states[key], parameter, optimizer):
                yield f"optimizer.state[{key}] is none of a parameter of {tuple(parameter.shape)}"


def _alike(theirs: object, ours: object) -> bool:
    """Whether ``theirs`` can stand where ``ours`` stands."""
    if isinstance(ours, (list, tuple)):
        return (
            isinstance(theirs, (list, tuple))
            and len(theirs) == len(ours)
            and all(map(_alike, theirs, ours))
        )
    if isinstance(ours, dict):
        return isinstance(theirs, dict)
    if type(ours) in (int, float):
        return isinstance(theirs, (int, float)) and abs(theirs) < _MOST  # False for NaN
    return theirs is None or isinstance(theirs, (bool, int, float, str, type(ours)))


def _fits(state: object, parameter: torch.Tensor, optimizer: Optimizer) -> bool:
    if not isinstance(state, dict) or not _KEPT.get(type(optimizer).__name__, set()) <= set(state):
        return False
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    averages = {key for key in _AVERAGES if state.get(key) is not None}
    return (
        all(
            value.layout == torch.strided and value.is_floating_point()
            for value in tensors.values()
        )
        and averages <= set(tensors)
        and all(tensors[key].shape == parameter.shape for key in averages)
        and isinstance(state.get("step", 0.0), (int, float, torch.Tensor))
        and tensors.get("step", parameter.new_zeros(())).numel() == 1
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
            if not _alike(value, own[key]):
                yield f"param_schedulers[{index}].{key} is {value!r:.40}"


def _forget_foreign_files(info: dict, runner: Runner) -> None:
    """CheckpointHook deletes the former best checkpoint, whatever the file says that this is."""
    folder = Path(runner.work_dir).resolve()
    for key in [key for key in info if str(key).startswith("best_ckpt")]:
        best = info[key]
        if not isinstance(best, str) or Path(best).resolve().parent != folder:
            del info[key]
            print_log(
                f"{best!r} is not in {folder}: it stays when a better checkpoint is found",
                logger="current",
                level=logging.WARNING,
            )
    kept = info.get("keep_ckpt_ids", [])
    if not isinstance(kept, list) or not all(map(_is_count, kept)):
        del info["keep_ckpt_ids"]
