"""The state of an optimizer in a checkpoint beside the optimizer that is to go on from it."""

from collections.abc import Iterator

import torch
from torch.optim import Optimizer

_MOST = 2**63
# What torch's optimizers keep of a parameter: what they can't do without, and what has the parameter's shape.
_KEPT = {name: {"step", "exp_avg", "exp_avg_sq"} for name in ("Adam", "AdamW")}
_AVERAGES = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer"}
# Each optimizer has one of these, or none, among the settings of its parameter groups.
_MARKS = {"betas", "momentum", "alpha", "rho", "lr_decay", "lambd", "etas"}

_Outline = list[tuple[list[str], int]]


def optimizer_faults(state: dict, optimizer: Optimizer) -> Iterator[str]:
    """Yield what differs from the state of ``optimizer``, which torch would find out at the first step."""
    groups, states = state.get("param_groups"), state.get("state")
    if not isinstance(groups, list) or not isinstance(states, dict):
        yield "its optimizer has no state and no param_groups"
        return
    own = optimizer.param_groups
    if not all(isinstance(group, dict) and isinstance(group.get("params"), list) for group in groups):
        yield "its optimizer has param_groups that are none"
        return
    if (theirs := _outline(groups)) != (ours := _outline(own)):
        yield (
            f"its optimizer has {_describe(theirs)}, that of this run {_describe(ours)}: the run was "
            "started with another optim_wrapper (optimizer, paramwise_cfg). Resume with the config that it "
            "was started with"
        )
        return
    for index, (theirs, ours) in enumerate(zip(groups, own, strict=True)):
        for key, value in ours.items():
            if key != "params" and key in theirs and not alike(theirs[key], value):
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


def _outline(groups: list[dict]) -> _Outline:
    """Marks and number of parameters of each group."""
    return [(sorted(_MARKS & group.keys()), len(group["params"])) for group in groups]


def _describe(outline: _Outline) -> str:
    parameters = sum(count for _, count in outline)
    settings = sorted({setting for names, _ in outline for setting in names})
    return f"{parameters} parameters in {len(outline)} groups with {', '.join(settings) or 'no state'}"


def alike(theirs: object, ours: object) -> bool:
    """Whether ``theirs`` can stand where ``ours`` stands."""
    if isinstance(ours, (list, tuple)):
        return (
            isinstance(theirs, (list, tuple)) and len(theirs) == len(ours) and all(map(alike, theirs, ours))
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
        all(value.layout == torch.strided and value.is_floating_point() for value in tensors.values())
        and averages <= set(tensors)
        and all(tensors[key].shape == parameter.shape for key in averages)
        and isinstance(state.get("step", 0.0), (int, float, torch.Tensor))
        and tensors.get("step", parameter.new_zeros(())).numel() == 1
    )
