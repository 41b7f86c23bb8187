"""The state of a training in a checkpoint: it fits the run that resumes from it."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.runner import Runner
from torch.optim import Optimizer

from ..errors import InputError
from ..run_state import missing_state

# Settings that tell one kind of optimizer from another, and the averages that have a parameter's shape.
_MARKS = {"betas", "amsgrad", "momentum_decay", "momentum", "dampening"}
_MARKS |= {"alpha", "rho", "lr_decay", "lambd", "etas"}
_AVERAGES = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum")


def check_state(path: str | Path, checkpoint: dict, runner: Runner) -> None:
    """Refuse a state, read from ``path``, that the run could not resume from.

    Raises:
        InputError: A part is not there, or is of another optimizer or schedule.
    """
    for fault in _faults(checkpoint, runner):
        raise InputError(
            f"{path}: a run can't be resumed from this checkpoint: {fault}. To start from its weights alone, "
            f"leave --resume out and set --cfg-options load_from={path}"
        )


def _faults(checkpoint: dict, runner: Runner) -> Iterator[str]:
    if missing := missing_state(checkpoint):
        yield f"it lacks {', '.join(missing)}"
        return
    if optimizer := getattr(runner.optim_wrapper, "optimizer", None):
        yield from _optimizer_faults(checkpoint["optimizer"], optimizer)
    schedulers = runner.param_schedulers if isinstance(runner.param_schedulers, list) else []
    keys = [state.keys() for state in checkpoint.get("param_schedulers", [])]
    own = [scheduler.state_dict().keys() for scheduler in schedulers]
    if len(keys) != len(own) or any(theirs - ours for theirs, ours in zip(keys, own, strict=True)):
        yield "param_scheduler is another schedule; --resume-schedule config takes that of the config"


def _optimizer_faults(state: dict, optimizer: Optimizer) -> Iterator[str]:
    def outline(groups: list[dict]) -> list[tuple]:
        return [(len(group["params"]), sorted(_MARKS & group.keys())) for group in groups]

    groups, own = state["param_groups"], optimizer.param_groups
    if outline(groups) != outline(own):
        yield (
            f"its optimizer has groups of (parameters, settings) {outline(groups)!s:.200}, that of this run "
            f"{outline(own)!s:.200}: the run was started with another optimizer or paramwise_cfg. "
            "Resume with the config that it was started with"
        )
        return
    for group, ours in zip(groups, own, strict=True):
        for number, parameter in zip(group["params"], ours["params"], strict=True):
            averages = map(state["state"].get(number, {}).get, _AVERAGES)
            if any(average is not None and average.shape != parameter.shape for average in averages):
                yield f"optimizer.state[{number}] is not that of a parameter of {tuple(parameter.shape)}"
