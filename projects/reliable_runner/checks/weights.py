"""A checkpoint fits what the run does with it, or the run stops."""

from collections.abc import Iterator
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, Runner, find_latest_checkpoint
from torch import Tensor, nn
from torch.optim import Optimizer

from projects.checkpoint_conversion.family import foreign_weights, guess_family

from ..errors import InputError
from ..files.coco_file import shorten
from ..log import warn
from ..run_state import bare_model, missing_state
from .class_names import class_difference

_BACKBONE = "backbone."
_OF_CLASSES = (".cls_branches.", ".fc_cls.", ".label_embedding.")  # of heads, of DETR's, of denoising
# Settings that tell one kind of optimizer from another, and the averages that have a parameter's shape.
_MARKS = {"betas", "amsgrad", "momentum_decay", "momentum", "dampening"}
_MARKS |= {"alpha", "rho", "lr_decay", "lambd", "etas"}
_AVERAGES = ("exp_avg", "exp_avg_sq", "momentum_buffer", "square_avg", "sum")


class CheckpointCheckHook(Hook):
    """Refuse a checkpoint of other classes or of another model, and a state that a run can't resume from.

    Resuming and testing want all weights and no others. A training may start (``load_from``) from weights
    that fit in part: what does not fit stays as it was initialised, and the log names it. That is the way to
    other classes and queries.
    """

    priority = "ABOVE_NORMAL"  # after ResumedSettingsHook, before EMAHook copies the weights

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Check what the runner is going to read, and adapt it if a training starts from it."""
        path = runner._load_from or find_latest_checkpoint(runner.work_dir)
        weights = checkpoint.get("state_dict", checkpoint)
        model, exact = bare_model(runner), runner._resume or not isinstance(runner._train_loop, BaseLoop)
        difference = class_difference(runner, checkpoint)
        if exact and difference:
            raise InputError(
                f"the checkpoint {path} was trained on other classes{difference}\n"
                "To test or resume it, give the data sets and the model its classes. To train on the classes "
                "of this run, start from it: load_from=... without --resume."
            )
        check_fits(path, weights, model, exact)
        if runner._resume:
            check_state(path, checkpoint, runner)
        if not exact and (report := _adapt(weights, model, difference)):
            warn(f"{path}: {report}")


def check_fits(path: str | Path, weights: dict, model: nn.Module, exact: bool = True) -> None:
    """Refuse, by `InputError`, weights read from ``path`` that are of another code base or another model.

    Unless ``exact`` it is enough if some fit that are not the backbone's. A leading ``module.`` is passed
    over, and so are counters of batches, which old checkpoints lack.
    """
    foreign = foreign_weights(weights, path)
    if foreign and guess_family(weights) != guess_family(model.state_dict()):
        raise InputError(f"{path}: {foreign}")
    weights, own = _bare(weights), model.state_dict()
    misfits = _misfits(weights, own)
    left = [f"{key} is {shape or 'not there'} instead of {here}" for key, (shape, here) in misfits.items()]
    fitting = _shapes(own).keys() - misfits.keys()
    if all(key.startswith(_BACKBONE) for key in fitting):
        prefix = f', prefix="{_BACKBONE}"' if any(_BACKBONE in key for key in weights) else ""
        others = [text for text in left if _BACKBONE not in text] or left
        raise InputError(
            f"{path}: {len(fitting)} of the model's {len(fitting) + len(left)} tensors fit, none beside the "
            f"backbone: {shorten(others)}; it holds {shorten(list(weights)) or 'nothing'}. For a backbone's "
            f'weights set model.backbone.init_cfg=dict(type="Pretrained", checkpoint="{path}"{prefix})'
        )
    problems = left + [f"{key} is unknown to the model" for key in weights if key not in own]
    if exact and (problems := problems or _untied(weights, model)):
        raise InputError(
            f"{path}: its weights are of another model: {shorten(problems)}. Resume and test with the config "
            "that it was trained with; a new training can start from what fits (load_from)"
        )


def _bare(weights: dict) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in weights.items() if isinstance(value, Tensor)}


def _shapes(weights: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {k: tuple(v.shape) for k, v in weights.items() if not k.endswith("num_batches_tracked")}


def _misfits(weights: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, tuple]:
    """The tensors of ``own`` that ``weights`` can't fill: shape there, None if it is not there, and here."""
    found = _shapes(weights)
    return {key: (found.get(key), shape) for key, shape in _shapes(own).items() if found.get(key) != shape}


def _untied(weights: dict[str, Tensor], model: nn.Module) -> list[str]:
    """Which tensors are one in ``model``, but differ in ``weights``.

    A model without box refinement has one branch for all layers, else its checkpoint is like one with it.
    """
    first: dict[int, str] = {}
    twins = [(key, first.setdefault(id(x), key)) for key, x in model.state_dict(keep_vars=True).items()]
    return [
        f"{key} differs from {twin}, but with_box_refine=False has one for both"
        for key, twin in twins
        if key != twin and {key, twin} <= weights.keys() and not torch.equal(weights[key], weights[twin])
    ]


def _adapt(weights: dict, model: nn.Module, difference: str) -> str:
    """Give ``weights`` all names of ``model`` and no others: what can't be loaded, stays as the model has it.

    If there is a ``difference`` of the classes, nothing that has a row a class is taken. Returns a report of
    all that was left out, "" if nothing was.
    """
    found, own = _bare(weights), model.state_dict()
    left = _misfits(found, own)
    if difference:
        classes = [key for key in own if any(part in key for part in _OF_CLASSES)]
        left |= {key: (tuple(found[key].shape), tuple(own[key].shape)) for key in classes if key not in left}
    fitting = {key: found[key] for key in own if key in found and key not in left}
    lines = [f"    {key} {shape or 'not there'} -> {here}" for key, (shape, here) in left.items()]
    if strange := [key for key in found if key not in own]:
        lines.append(f"  passed over, the model does not have them: {shorten(strange)}")
    if differing := _untied(fitting, model):
        lines.append(f"  {shorten(differing)}; the last is taken")
    weights.clear()
    weights.update(own | fitting)
    if not lines:
        return ""
    title = (
        f"{len(left)} of the model's {len(own)} tensors are re-initialised (shape in the file -> shape "
        "here), all others are loaded exactly"
    )
    return "\n".join([title + difference, *lines])


def check_state(path: str | Path, checkpoint: dict, runner: Runner) -> None:
    """Refuse, by `InputError`, a state read from ``path`` that the run could not resume from."""
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
    groups, own = state["param_groups"], optimizer.param_groups
    outline, ours = (
        [(len(group["params"]), sorted(_MARKS & group.keys())) for group in part] for part in (groups, own)
    )
    if outline != ours:
        yield (
            f"its optimizer has groups of (parameters, settings) {outline!s:.200}, that of this run "
            f"{ours!s:.200}: the run was started with another optimizer or paramwise_cfg. Resume with the "
            "config that it was started with"
        )
        return
    for group, here in zip(groups, own, strict=True):
        for number, parameter in zip(group["params"], here["params"], strict=True):
            averages = map(state["state"].get(number, {}).get, _AVERAGES)
            if any(average is not None and average.shape != parameter.shape for average in averages):
                yield f"optimizer.state[{number}] is not that of a parameter of {tuple(parameter.shape)}"
