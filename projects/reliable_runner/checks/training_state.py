"""The state of a training in a checkpoint: it fits the run that resumes from it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import HistoryBuffer
from mmengine.runner import Runner, find_latest_checkpoint
from torch.optim import Optimizer

from ..errors import InputError

_MOST = 2**63
# What a checkpoint must hold, and what hooks note in it, each with a value of its kind.
_PARTS = dict(
    meta=dict(epoch=0, iter=0),
    message_hub=dict(log_scalars={}, runtime_info={}, resumed_keys={}),
    optimizer=dict(state={}, param_groups=[]),
)
_NOTED = dict(
    best_score=0.0,
    best_ckpt="",
    last_ckpt="",
    keep_ckpt_ids=[],
    outdated_ckpts=[],
    early_stopping=["coco/bbox_mAP", 0.0, 0],
)
_ITEMS = dict(keep_ckpt_ids=int, outdated_ckpts=str)
# Settings that tell one kind of optimizer from another, and the averages that have a parameter's shape.
_MARKS = {"betas", "momentum", "alpha", "rho", "lr_decay", "lambd", "etas"}
_AVERAGES = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}


class ResumeCheckHook(Hook):
    """Refuse to resume from a state that the run could not resume from, see `check_state`."""

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
    """Refuse a state that the run could not resume from.

    Args:
        path: where it is from, for the message.
        checkpoint: what mmengine's Runner has saved.
        runner: with optimizer and schedulers built.

    Raises:
        InputError: A part is of another type, or of another optimizer or schedule.
    """
    for fault in _faults(checkpoint, runner):
        raise InputError(
            f"{path}: a run can't be resumed from this checkpoint: {fault}. To start from its weights alone, "
            f"leave --resume out and set --cfg-options load_from={path}"
        )


def _faults(checkpoint: dict, runner: Runner) -> Iterator[str]:
    for part, expected in _PARTS.items():
        yield from _differences(checkpoint[part], expected, part)
        yield from (f"{part} lacks {key}" for key in expected.keys() - checkpoint[part].keys())
    meta, history = checkpoint["meta"], checkpoint["message_hub"]
    if not _fits(meta.get("seed") or 0, 0):
        yield f"meta.seed is {meta['seed']!r:.40}"
    if not all(value is True for value in history["resumed_keys"].values()):
        yield "message_hub.resumed_keys holds other values than True"
    for name, value in history["runtime_info"].items():
        kind = next((key for key in _NOTED if str(name).startswith(key)), None)
        items = value if isinstance(value, list) else []
        if kind and not (
            _fits(value, _NOTED[kind]) and all(type(x) is _ITEMS.get(kind, type(x)) for x in items)
        ):
            yield f"message_hub.runtime_info[{name!r:.40}] is {value!r:.40}"
    for name, buffer in history["log_scalars"].items():
        if isinstance(buffer, HistoryBuffer) and not _is_complete(buffer):
            yield f"the history of {name!r:.40} is damaged"
    if optimizer := getattr(runner.optim_wrapper, "optimizer", None):
        yield from _optimizer_faults(checkpoint["optimizer"], optimizer)
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    for index, (state, own) in enumerate(
        zip(checkpoint.get("param_schedulers", []), schedulers, strict=False)
    ):
        place, own = f"param_schedulers[{index}]", own.state_dict()
        if not isinstance(state, dict) or state.keys() - own.keys():
            yield f"{place} is of another schedule"
            return
        yield from _differences(state, own, place)


def _optimizer_faults(state: dict, optimizer: Optimizer) -> Iterator[str]:
    def outline(groups: list[dict]) -> list[tuple]:
        return [(len(group["params"]), sorted(_MARKS & group.keys())) for group in groups]

    groups, own = state["param_groups"], optimizer.param_groups
    if not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups):
        yield "optimizer.param_groups are no groups of parameters"
        return
    if outline(groups) != outline(own):
        yield (
            f"its optimizer has groups of (parameters, settings) {outline(groups)!s:.200}, that of this run "
            f"{outline(own)!s:.200}: the run was started with another optimizer or paramwise_cfg. "
            "Resume with the config that it was started with"
        )
        return
    required = optimizer.defaults.keys() & {"lr", "betas", "eps", "weight_decay", "momentum"}
    for index, (theirs, ours) in enumerate(zip(groups, own, strict=True)):
        place = f"optimizer.param_groups[{index}]"
        settings = {key: value for key, value in ours.items() if key != "params"}
        yield from _differences(theirs, settings, place)
        yield from (f"{place} lacks {key}" for key in required - theirs.keys())
        for number, parameter in zip(theirs["params"], ours["params"], strict=True):
            if not isinstance(number, int) or not _is_state_of(state["state"].get(number, {}), parameter):
                shape = tuple(parameter.shape)
                yield f"optimizer.state[{number!r:.40}] is not that of a parameter of {shape}"


def _is_state_of(state: object, parameter: torch.Tensor) -> bool:
    if not isinstance(state, dict):
        return False
    tensors = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
    averages = {key for key in _AVERAGES if state.get(key) is not None}
    needed = {"step", "exp_avg", "exp_avg_sq"} if {"step", "exp_avg"} & state.keys() else set()
    return (
        needed <= state.keys()
        and averages <= tensors.keys()
        and all(x.layout == torch.strided and x.is_floating_point() for x in tensors.values())
        and all(tensors[key].shape == parameter.shape for key in averages)
        and torch.as_tensor(state.get("step", 0.0)).numel() == 1
    )


def _differences(theirs: object, ours: dict, place: str) -> Iterator[str]:
    """Yield which values of ``theirs`` can't stand where those of ``ours`` stand."""
    if not isinstance(theirs, dict):
        yield f"{place} is a {type(theirs).__name__}"
        return
    for key, value in ours.items():
        if key in theirs and not _fits(theirs[key], value):
            yield f"{place}.{key} is {theirs[key]!r:.40}"


def _fits(theirs: object, ours: object) -> bool:
    if isinstance(ours, int) and not isinstance(ours, bool):
        return type(theirs) in (int, float) and -_MOST < theirs < _MOST and (theirs >= 0 or ours < 0)
    if isinstance(ours, float):
        return isinstance(theirs, (int, float)) and abs(theirs) < _MOST  # False for NaN
    if isinstance(ours, str):
        return theirs is None or isinstance(theirs, str)
    if isinstance(ours, (list, tuple)):
        same = isinstance(theirs, (list, tuple)) and (not ours or len(theirs) == len(ours))
        return same and all(map(_fits, theirs, ours))
    if isinstance(ours, dict):
        return isinstance(theirs, dict) and all(isinstance(key, (str, int)) for key in theirs)
    return theirs is None or isinstance(theirs, (bool, int, float, str, type(ours)))


def _is_complete(buffer: HistoryBuffer) -> bool:
    arrays = [getattr(buffer, name, None) for name in ("_log_history", "_count_history")]
    return (
        all(isinstance(array, np.ndarray) and array.ndim == 1 for array in arrays)
        and all(array.dtype.kind in "fiu" for array in arrays)
        and len(arrays[0]) == len(arrays[1])
        and type(getattr(buffer, "max_length", None)) is int
        and isinstance(getattr(buffer, "_statistics_methods", None), dict)
    )
